"""Pictures of the best and the worst images, kept while the others pass.

    picture  uint8 (H', W', 3)  RGB, its longer side at most `PICTURE_PIXELS`

An image is only drawn when it enters one of the two lists, so a long evaluation draws few.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from unet_keras.drawing import (
    error_map,
    match_map,
    overlay,
    probability_map,
    shrink,
    to_rgb,
)
from unet_keras.evaluation.instances import best_matches
from unet_keras.evaluation.measure import Case
from unet_keras.evaluation.overlaps import Overlaps

PICTURE_PIXELS = 704


@dataclass(frozen=True, eq=False)
class Example:
    """Pictures of one image.

    Attributes:
        file_name: Of the image.
        rank: Its segmentation accuracy, then its Dice, both in [0, 1]; what best and worst go by.
        pictures: uint8 (H', W', 3) by title, in the order in which they are shown.
    """

    file_name: str
    rank: tuple[float, float]
    pictures: dict[str, np.ndarray]


@dataclass(eq=False)
class ExampleKeeper:
    """The best and the worst images so far.

    Attributes:
        count: How many of each, at least 0.
    """

    count: int
    _best: list[Example] = field(default_factory=list)
    _worst: list[Example] = field(default_factory=list)

    def offer(
        self, file_name: str, rank: tuple[float, float], draw: Callable[[], dict[str, np.ndarray]]
    ) -> None:
        """Keep an image if it is among the best or the worst.

        Args:
            file_name: Of the image.
            rank: Segmentation accuracy and Dice; higher is better.
            draw: Makes the pictures; called only if they are kept.
        """
        if not self.count:
            return
        better = len(self._best) < self.count or rank > self._best[-1].rank
        worse = len(self._worst) < self.count or rank < self._worst[-1].rank
        if not (better or worse):
            return
        example = Example(file_name, rank, draw())
        if better:
            self._best = sorted([*self._best, example], key=lambda e: e.rank, reverse=True)
        if worse:
            self._worst = sorted([*self._worst, example], key=lambda e: e.rank)
        del self._best[self.count :], self._worst[self.count :]

    def best(self) -> list[Example]:
        """The best images, best first; at most `count`."""
        return list(self._best)

    def worst(self) -> list[Example]:
        """The worst images that are not among the best, worst first; at most `count`."""
        shown = {id(example) for example in self._best}
        return [example for example in self._worst if id(example) not in shown]


def draw_example(case: Case, overlaps: Overlaps, *, threshold: float) -> dict[str, np.ndarray]:
    """Everything the report shows of one image.

    Args:
        case: The image, its truth and its prediction.
        overlaps: Of this image; which instances match is taken from it.
        threshold: Probability from which on a pixel is foreground.

    Returns:
        uint8 (H', W', 3) by title.
    """
    pairs = best_matches(overlaps)
    missed = np.delete(overlaps.truth_numbers, overlaps.truth_index[pairs])
    false = np.delete(overlaps.predicted_numbers, overlaps.predicted_index[pairs])
    mask = case.probability >= np.float32(threshold)
    pictures = {
        "Image": to_rgb(case.image),
        "Truth": overlay(case.image, case.truth_labels),
        "Prediction": overlay(case.image, case.predicted_labels),
        "Probability": probability_map(case.probability),
        "Pixel errors": error_map(case.image, case.foreground, mask),
        "Instance matches": match_map(
            case.image, case.truth_labels, case.predicted_labels, missed=missed, false=false
        ),
    }
    return {title: shrink(picture, PICTURE_PIXELS) for title, picture in pictures.items()}
