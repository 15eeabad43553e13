"""Random label maps of every kind that has ever broken a distance transform."""

import numpy as np

KINDS = ["disks", "nested", "pieces", "points", "blocks", "stripes", "pair", "one", "none", "full"]


def random_labels(kind: str, seed: int, *, largest_side: int = 34) -> np.ndarray:
    """Make a label map, uint16 (H, W), sides 1 to `largest_side`; numbers have gaps."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    height, width = rng.integers(1, largest_side + 1, 2)
    labels = np.zeros((height, width), np.uint16)
    if kind in ("disks", "nested", "one"):
        # Centers may lie outside, so that cells are cut off by the image's edge.
        for k in range(1, 2 if kind == "one" else rng.integers(2, 20)):
            center, radius = rng.uniform(-2, (height + 2, width + 2)), rng.uniform(1, 9)
            _draw_disk(labels, center, radius, 3 * k)
            if kind == "nested":
                _draw_disk(labels, center, radius * 0.6, 0 if k % 3 == 0 else 3 * k + 1)
                _draw_disk(labels, center, radius * 0.3, 3 * k + 2)
    elif kind == "pieces":
        # A few numbers scattered over the map: every instance is in many pieces.
        some = rng.random(labels.shape) < rng.choice([0.02, 0.1, 0.4])
        labels[some] = rng.integers(1, rng.integers(2, 6), some.sum())
    elif kind == "points":
        some = rng.random(labels.shape) < rng.choice([0.01, 0.05, 0.3])
        labels[some] = 1 + rng.permutation(some.sum())
    elif kind == "blocks":
        side = rng.integers(1, 6)
        coarse = rng.integers(0, 4, (height // side + 1, width // side + 1))
        labels[:] = np.kron(coarse, np.ones((side, side), int))[:height, :width]
    elif kind == "stripes":
        labels[:: rng.integers(2, 9)] = 1
        labels[:, :: rng.integers(2, 9)] = 2
    elif kind == "pair":
        labels[rng.integers(height), rng.integers(width)] = 700
        labels[rng.integers(height), rng.integers(width)] = 2
    elif kind == "full":
        labels[:] = 5
    return labels


def _draw_disk(labels: np.ndarray, center: np.ndarray, radius: float, number: int) -> None:
    y, x = np.indices(labels.shape)
    labels[(y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2] = number
