"""Scores of a network that tells several classes of instances apart, class by class.

    truth          integer (H, W)         0 background, 1..K the class of each pixel
    probabilities  floating (H, W, 1+K)   background first

Only here does a cell of the wrong class count as wrong: all other scores take the foreground
classes together. A pixel has the class of the greatest probability, as in the metrics of training,
not by the threshold.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_keras.evaluation.pixels import PixelCounts, count_pixels

TOGETHER = "all classes"
# those that leave out what is background in truth and prediction, which is most of each class
CLASS_SCORES = ("dice", "iou", "precision", "recall")


class ClassCounts:
    """Pixels of each class, right and wrong, added image by image.

    Attributes:
        names: Of the classes, the background first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Start without images."""
        self.names = tuple(names)
        self._counts = [PixelCounts() for _ in self.names[1:]]

    def add(self, truth: np.ndarray, probabilities: np.ndarray) -> None:
        """Count the pixels of one image.

        Args:
            truth: Integer (H, W), 0..K.
            probabilities: floating (H, W, 1+K).

        Raises:
            InputError: The sizes differ.
        """
        predicted = np.argmax(probabilities, axis=-1)
        for index in range(1, len(self.names)):
            self._counts[index - 1] += count_pixels(truth == index, predicted == index)

    def scores(self) -> list[dict[str, Any]]:
        """What stands under `classes` in `metrics.json`.

        Returns:
            A row for each class, then one for all of them, each pixel with its own class: `name`
            and `CLASS_SCORES`, each in [0, 1].
        """
        rows = [*zip(self.names[1:], self._counts, strict=True)]
        rows.append((TOGETHER, sum(self._counts, PixelCounts())))
        return [
            {"name": name, **{score: getattr(counts, score) for score in CLASS_SCORES}}
            for name, counts in rows
        ]


def class_map(labels: np.ndarray, classes: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """The class of each pixel, as the network learned it.

    Args:
        labels: Integer (H, W), 0 background, 1..n instances.
        classes: Integer (n,), the class 1..K of each instance.
        foreground: bool (H, W), False where touching instances were parted.

    Returns:
        Integer (H, W), 0 background.
    """
    return np.where(foreground, np.concatenate([[0], classes])[labels], 0)
