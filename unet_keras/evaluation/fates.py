"""What became of each true instance, in words that say what to mend.

    found    it matches a predicted instance at IoU 0.5
    merged   most of it lies in a prediction that holds most of another true instance too
    split    it is in pieces: two predictions or more lie mostly in it
    missed   most of it is background in the prediction
    inexact  what remains: a prediction is there, but matches too little

Every true instance has one fate, the first of these that fits; so they add up. A predicted
instance that does not match is `false` where most of it lies in no true instance and no true
instance lies in it for the most part; the others belong to what was merged, split or inexact.

Merged instances ask for more border weight or another way to part instances, missed ones for a
lower threshold or more training images of their kind, false ones for a higher threshold or area.
"""

from dataclasses import asdict, astuple, dataclass

import numpy as np

from unet_keras.evaluation.instances import best_matches
from unet_keras.evaluation.overlaps import Overlaps


@dataclass(frozen=True)
class Fates:
    """Numbers of instances, each at least 0; addable.

    Attributes:
        found: True instances that match at IoU 0.5.
        merged: True instances in one prediction with others.
        split: True instances in several predictions.
        inexact: True instances with a prediction that matches too little.
        missed: True instances that the prediction left to the background.
        false: Predicted instances where there is none.
    """

    found: int = 0
    merged: int = 0
    split: int = 0
    inexact: int = 0
    missed: int = 0
    false: int = 0

    def named(self) -> dict[str, int]:
        """The counts by their names in `metrics.json`."""
        return {f"{name}_instances": count for name, count in asdict(self).items()}

    def __add__(self, other: "Fates") -> "Fates":
        return Fates(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def count_fates(overlaps: Overlaps) -> Fates:
    """Tell the fate of the instances of one image.

    Args:
        overlaps: From `label_overlaps` or `outline_overlaps`.

    Returns:
        The counts; all but `false` add up to the number of true instances.
    """
    truth, predicted, shared = overlaps.truth_index, overlaps.predicted_index, overlaps.shared
    count, others = len(overlaps.truth_numbers), len(overlaps.predicted_numbers)
    matches = best_matches(overlaps)
    found, matched = np.zeros(count, bool), np.zeros(others, bool)
    found[truth[matches]], matched[predicted[matches]] = True, True
    # Most of an instance lies in one prediction at most, so "which holds it" is well defined.
    holds = 2 * shared > overlaps.truth_areas[truth]
    held = np.bincount(predicted[holds], minlength=others)
    merged = np.zeros(count, bool)
    merged[truth[holds]] = held[predicted[holds]] > 1
    lies_in = 2 * shared > overlaps.predicted_areas[predicted]
    split = np.bincount(truth[lies_in], minlength=count) > 1
    covered = np.bincount(truth, weights=shared, minlength=count)
    missed = 2 * covered < overlaps.truth_areas
    # Where true outlines overlap, pixels count several times here: never too few for `false`.
    on_truth = np.bincount(predicted, weights=shared, minlength=others)
    false = ~matched & (held == 0) & (2 * on_truth < overlaps.predicted_areas)
    fates = np.select([found, merged, split, missed], [0, 1, 2, 4], default=3)
    counts = [*np.bincount(fates, minlength=5).tolist(), int(false.sum())]
    return Fates(*counts)
