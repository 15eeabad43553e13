"""Answers of stardist.matching on random label maps: writes matching.npz beside this file.

    python matching.py

needs stardist (made with 0.9.2, whose assignment is that of SciPy); the tests need neither. Label
maps are tiles, of which some pixels and some tiles are lost and some are joined, against the same
moved by a pixel: their IoU is often a threshold exactly.

    truth_K, predicted_K   uint16 (H, W)
    true_positive_K        int64 (10,)    at IoU 0.50, 0.55, ... 0.95
    accuracy_K             float64 (10,)
    panoptic_quality_K     float64 (10,)
"""

from pathlib import Path

import numpy as np
from stardist.matching import matching

PAIRS = 40
THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))


def draw_pair(random):
    """Two label maps of 2 to 30 pixels a side; something is in one of them."""
    size, cell = int(random.integers(2, 31)), int(random.integers(1, 7))
    tiles = np.arange(1, 31 * 31 + 1).reshape(31, 31)
    truth = np.kron(tiles, np.ones((cell, cell), int))[:size, :size]
    predicted = np.roll(truth, random.integers(-1, 2, 2), (0, 1))
    for labels in (truth, predicted):
        labels[random.random(labels.shape) < random.choice([0, 0.1, 0.4])] = 0
        labels[np.isin(labels, random.integers(0, 90, 8))] = int(random.integers(0, 900))
    if not (truth.any() or predicted.any()):
        return draw_pair(random)  # stardist scores nothing against nothing 0, we 1
    return truth.astype(np.uint16), predicted.astype(np.uint16)


def main() -> None:
    arrays, random = {}, np.random.default_rng(2018)
    for number in range(PAIRS):
        truth, predicted = draw_pair(random)
        found = matching(truth, predicted, thresh=THRESHOLDS)
        arrays[f"truth_{number}"], arrays[f"predicted_{number}"] = truth, predicted
        arrays[f"true_positive_{number}"] = np.array([level.tp for level in found])
        arrays[f"accuracy_{number}"] = np.array([level.accuracy for level in found])
        arrays[f"panoptic_quality_{number}"] = np.array([level.panoptic_quality for level in found])
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
