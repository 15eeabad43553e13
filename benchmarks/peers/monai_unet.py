"""MONAI's U-Net as its users train it for cells: three classes, patches, its own augmentation.

Grey values, network, classes, loss, transforms, windows follow the public baseline of the NeurIPS
2022 challenge on cell segmentation (Ma et al. 2024, Nature Methods 21, 1103-1113): percentiles 1 to
99, residual U-Net, background / inside / border of three pixels, Dice and cross-entropy, AdamW at
6e-4, crops and windows of 256. Other than there, the rate falls to the end of the time, and where
the CPU computes in bfloat16, so does the network.

Instances are the pieces of the inside, their holes filled, grown by a watershed into the border,
which their readout leaves off: every cell would lack its outermost pixels.
"""

from pathlib import Path

import numpy as np
import torch
from exchange import Budget, finish, parse, read_training
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAxisFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandRotate90d,
    RandSpatialCropd,
    RandZoomd,
    ScaleIntensityRangePercentilesd,
)
from monai.utils import set_determinism
from skimage.measure import label
from skimage.morphology import dilation, disk, remove_small_holes, remove_small_objects
from skimage.segmentation import find_boundaries, watershed

CROP, BATCH, RATE = 256, 8, 6e-4
SMALLEST_CELL = 16  # pixels of the inside, theirs
LARGEST_HOLE = 64  # pixels, of what theirs calls by default
BOTH, IMAGE = ["image", "label"], ["image"]


def transforms() -> Compose:
    """Theirs, without what reads files."""
    nearest = ["area", "nearest"]
    return Compose([
        RandSpatialCropd(BOTH, (CROP, CROP), random_size=False),
        RandAxisFlipd(BOTH, prob=0.5),
        RandRotate90d(BOTH, prob=0.5, spatial_axes=(0, 1)),
        RandGaussianNoised(IMAGE, prob=0.25, mean=0, std=0.1),
        RandAdjustContrastd(IMAGE, prob=0.25, gamma=(1, 2)),
        RandGaussianSmoothd(IMAGE, prob=0.25, sigma_x=(1, 2)),
        RandHistogramShiftd(IMAGE, prob=0.25, num_control_points=3),
        RandZoomd(BOTH, prob=0.15, min_zoom=0.8, max_zoom=1.5, mode=nearest),
    ])  # fmt: skip


def classes_of(labels: np.ndarray) -> np.ndarray:
    """Background 0, inside 1, border 2; (H, W)."""
    border = dilation(find_boundaries(labels, mode="inner"), disk(1))
    return np.where(border, 2, labels > 0).astype(np.uint8)


def computes_in_bfloat16() -> bool:
    """Whether the CPU does."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def main() -> None:
    """Train, then segment the test images."""
    arguments = parse()
    set_determinism(arguments.seed)
    images, truths = read_training(arguments.folder)
    scale = ScaleIntensityRangePercentilesd(IMAGE, 1, 99, b_min=0, b_max=1, clip=True)
    cases = [
        scale({"image": torch.from_numpy(image[None].astype(np.float32)),
               "label": torch.from_numpy(classes_of(truth)[None])})
        for image, truth in zip(images, truths, strict=True)
    ]  # fmt: skip
    model = UNet(
        spatial_dims=2, in_channels=1, out_channels=3,
        channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2,
    ).to(memory_format=torch.channels_last)  # fmt: skip
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    random = np.random.default_rng(arguments.seed)
    augment = transforms().set_random_state(arguments.seed)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16())
    budget = Budget(arguments.cpu_seconds)
    done = False
    while not done:
        drawn = [augment(cases[number]) for number in random.integers(len(cases), size=BATCH)]
        x, y = (torch.stack([case[key] for case in drawn]).as_tensor() for key in BOTH)
        for group in optimizer.param_groups:
            group["lr"] = RATE * budget.rate()
        optimizer.zero_grad()
        with precision:
            logits = model(x.contiguous(memory_format=torch.channels_last))
        loss_of(logits.float(), y).backward()
        optimizer.step()
        done = budget.step()
    account = budget.account()
    model.eval()

    def segment(image: np.ndarray) -> np.ndarray:
        x = scale({"image": torch.from_numpy(image[None].astype(np.float32))})["image"][None]
        with torch.no_grad(), precision:
            logits = sliding_window_inference(x.as_tensor(), (CROP, CROP), 4, model)
        predicted = torch.softmax(logits.float(), 1)[0].numpy()
        inside = remove_small_holes(predicted[1] > 0.5, max_size=LARGEST_HOLE)
        seeds = label(remove_small_objects(inside, max_size=SMALLEST_CELL - 1))
        return watershed(-predicted[1], seeds, mask=predicted[0] < 0.5)

    finish(arguments.folder, arguments.output, segment, account)


if __name__ == "__main__":
    main()
