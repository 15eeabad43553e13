"""The group of an image: what scores are broken down by and what folds keep together.

In LIVECell it is the cell type; for folds, a well or a patient.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from unet_keras.errors import InputError

UNGROUPED = "all"


def group_of(file_name: str, pattern: str) -> str:
    """Read the group from a file name.

    Args:
        file_name: The image's name, without folders.
        pattern: Regular expression whose first group is wanted; `A172_Phase_C7.tif` and
            `^([^_]+)_` give `A172`.

    Returns:
        The group, or `all` where the pattern does not match.
    """
    match = re.search(pattern, file_name)
    return match.group(1) if match and match.group(1) else UNGROUPED


def grouped_folds(groups: Sequence[str], folds: int, *, seed: int = 0) -> list[int]:
    """Deal images into folds for cross-validation; images of one group go together.

    Neighbouring or successive images of a well resemble each other: apart, they would make a
    network look better than it is.

    Args:
        groups: The group of each image, such as `group_of` reads from its name.
        folds: How many, at least 2.
        seed: Decides between groups and folds of equal size.

    Returns:
        The fold of each image, 0 to `folds` - 1. The largest groups are dealt first, each to the
        fold with the fewest images so far; no fold is empty.

    Raises:
        InputError: Fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(groups)
    if folds < 2:
        raise InputError(f"folds={folds} must be at least 2")
    if len(sizes) < folds:
        raise InputError(
            f"{folds} folds need at least as many groups, but the {len(groups)} images are of "
            f"{len(sizes)} ({', '.join(sorted(sizes))}): take fewer folds or another pattern of "
            "the group"
        )
    shuffled = [str(group) for group in np.random.default_rng(seed).permutation(sorted(sizes))]
    filled, fold_of = [0] * folds, {}
    for group in sorted(shuffled, key=lambda group: -sizes[group]):
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]
