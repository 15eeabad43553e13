"""Small images of touching cells with a truth and a somewhat wrong prediction."""

import numpy as np
import pycocotools.mask as coco_mask

from unet_keras.targets.labels import paint_labels, separate_touching


def made_case(seed, *, size=(72, 96), cells=12, error=0.1):
    """Arguments of `Evaluation.add`; overlapping ellipses, of which the prediction loses some."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks = []
    for _ in range(cells):
        row, column = random.uniform(0, size[0]), random.uniform(0, size[1])
        a, b = random.uniform(5, 13, 2)
        mask = ((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 <= 1
        masks.append(np.asfortranarray(mask.astype(np.uint8)))
    outlines = tuple(coco_mask.encode(mask)["counts"] for mask in masks)
    labels = paint_labels(outlines, size)
    foreground = separate_touching(labels) > 0
    wrong = random.random(size) < error
    probability = np.where(foreground ^ wrong, 0.8, 0.1).astype(np.float32)
    lost = random.integers(1, cells + 1, 2) if cells else []
    return {
        "file_name": f"cells_{seed}.tif",
        "group": "round" if seed % 2 else "flat",
        "image": random.integers(90, 160, size, np.uint8),
        "truth_labels": labels,
        "outlines": outlines,
        "probability": probability,
        "predicted_labels": np.where(np.isin(labels, lost), 0, labels),
        "foreground": foreground,
    }
