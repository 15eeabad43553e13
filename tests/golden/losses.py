"""Values and gradients of the losses in PyTorch and MONAI: writes losses.npz beside this file.

    python losses.py

needs torch and monai (made with 2.13.0, CPU, and 1.6.1); the tests need neither. Each loss is
evaluated on each image by itself, the mean over the images is taken, and the gradient is that of
the mean; everything in float64, stored as float32. Logits are (B, H, W, K), as in Keras.
"""

from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceLoss
from torch.nn import BCEWithLogitsLoss
from torch.nn.functional import cross_entropy, one_hot

BATCH, HEIGHT, WIDTH, CLASSES = 3, 6, 7, 4


def draw_inputs() -> dict[str, np.ndarray]:
    """Return logits from mild to saturated, class indices and weights, some of them zero."""
    random = np.random.default_rng(2015)
    shape = (BATCH, HEIGHT, WIDTH)
    weight = random.gamma(1.0, 2.0, shape)
    weight[random.random(shape) < 0.2] = 0.0
    return {
        "binary_logits": random.normal(0, 4, (*shape, 1)).astype("float32"),
        "binary_index": random.integers(0, 2, shape).astype("uint8"),
        "several_logits": random.normal(0, 4, (*shape, CLASSES)).astype("float32"),
        "several_index": random.integers(0, CLASSES, shape).astype("uint8"),
        "weight": weight.astype("float32"),
    }


def binary_pixels(logits, index, weight):
    return BCEWithLogitsLoss(weight=weight, reduction="none")(logits[..., 0], index.double())


def several_pixels(logits, index, weight):
    return weight * cross_entropy(logits.movedim(-1, 0)[None], index[None], reduction="none")[0]


def weighted(pixels, normalize):
    def loss(logits, index, weight):
        values = pixels(logits, index, weight)
        divisors = {"weights": weight.sum(), "pixels": float(values.numel()), "none": 1.0}
        return values.sum() / divisors[normalize]

    return loss


def binary_dice(logits, index, weight):
    return DiceLoss(squared_pred=True, sigmoid=True)(
        logits.movedim(-1, 0)[None], index.double()[None, None]
    )


def several_dice(logits, index, weight):
    truth = one_hot(index, CLASSES).movedim(-1, 0)[None].double()
    dice = DiceLoss(squared_pred=True, softmax=True, include_background=False)
    return dice(logits.movedim(-1, 0)[None], truth)


def main() -> None:
    arrays = draw_inputs()
    cases = {"binary_dice": binary_dice, "several_dice": several_dice}
    for kind, pixels in (("binary", binary_pixels), ("several", several_pixels)):
        for normalize in ("weights", "pixels", "none"):
            cases[f"{kind}_{normalize}"] = weighted(pixels, normalize)
    results = {}
    for name, loss in cases.items():
        kind = name.split("_")[0]
        logits = torch.tensor(arrays[f"{kind}_logits"], dtype=torch.float64, requires_grad=True)
        index = torch.tensor(arrays[f"{kind}_index"], dtype=torch.int64)
        weight = torch.tensor(arrays["weight"], dtype=torch.float64)
        images = zip(logits, index, weight, strict=True)
        values = torch.stack([loss(*image) for image in images])
        values.mean().backward()
        results[f"{name}_value"] = values.detach().numpy().astype("float32")
        results[f"{name}_gradient"] = logits.grad.numpy().astype("float32")
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays, **results)


if __name__ == "__main__":
    main()
