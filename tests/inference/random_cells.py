"""Random touching cells for tests: discs cut where they meet, so that many share an edge."""

import numpy as np


def random_cells(
    seed: int, *, size: tuple[int, int] = (128, 160), count: int = 60, radius: float = 11.0
) -> np.ndarray:
    """Label map of `count` discs; a pixel belongs to the nearest center within its radius.

    Returns:
        int32 (H, W), 0 background, 1..n, every number present.
    """
    generator = np.random.default_rng(seed)
    centers = generator.uniform((0, 0), size, (count, 2))
    radii = generator.uniform(0.6 * radius, radius, count)
    grid = np.stack(np.mgrid[: size[0], : size[1]], axis=-1)[:, :, None]
    distances = np.linalg.norm(grid - centers, axis=-1)
    nearest = distances.argmin(axis=-1)
    labels = np.where(distances.min(axis=-1) <= radii[nearest], nearest + 1, 0)
    return np.unique(labels, return_inverse=True)[1].reshape(size).astype(np.int32)


def separate(labels: np.ndarray) -> np.ndarray:
    """The separation as the data contract words it, pixel by pixel, for comparison."""
    separated = labels.copy()
    height, width = labels.shape
    for row in range(height):
        for column in range(width):
            for beside in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                y, x = row + beside[0], column + beside[1]
                if 0 <= y < height and 0 <= x < width and labels[y, x]:
                    separated[row, column] *= labels[y, x] == labels[row, column]
    return separated


def segmentation_accuracy(truth: np.ndarray, found: np.ndarray) -> float:
    """TP / (TP + FP + FN), averaged over the IoU thresholds 0.5, 0.55, ..., 0.95."""
    true_count, found_count = int(truth.max()), int(found.max())
    pairs = truth.astype(np.int64) * (found_count + 1) + found
    shared = np.bincount(pairs.ravel(), minlength=(true_count + 1) * (found_count + 1))
    shared = shared.reshape(true_count + 1, found_count + 1)
    union = shared.sum(1, keepdims=True) + shared.sum(0) - shared
    best = (shared / np.maximum(union, 1))[1:, 1:].max(axis=1, initial=0.0)
    hits = [(best > threshold).sum() for threshold in np.arange(0.5, 1.0, 0.05)]
    return float(np.mean([hit / max(true_count + found_count - hit, 1) for hit in hits]))
