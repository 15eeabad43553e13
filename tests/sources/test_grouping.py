from collections import Counter

import pytest

from unet_keras import grouped_folds
from unet_keras.errors import InputError

WELLS = ["A1"] * 5 + ["A2"] * 3 + ["B1"] * 2 + ["B2"] * 2 + ["C1"]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_a_group_is_in_one_fold_and_every_fold_has_one(folds: int) -> None:
    dealt = grouped_folds(WELLS, folds)
    assert len({*zip(WELLS, dealt, strict=True)}) == len(set(WELLS))
    assert set(dealt) == set(range(folds))


def test_folds_are_of_like_size() -> None:
    assert sorted(Counter(grouped_folds(WELLS, 3)).values()) == [4, 4, 5]
    singles = [f"image {number}" for number in range(23)]
    assert sorted(Counter(grouped_folds(singles, 5)).values()) == [4, 4, 5, 5, 5]


def test_the_seed_alone_decides() -> None:
    singles = [f"image {number}" for number in range(23)]
    dealt = grouped_folds(singles, 5, seed=1)
    assert dealt == grouped_folds(singles, 5, seed=1) != grouped_folds(singles, 5, seed=2)
    turned = grouped_folds(singles[::-1], 5, seed=1)
    assert turned == dealt[::-1], "the order of the images does not"


@pytest.mark.parametrize(
    ("groups", "folds", "message"),
    [
        (WELLS, 1, "folds=1 must be at least 2"),
        (WELLS, 6, r"6 folds need at least as many groups, but the 13 images are of 5 \(A1, A2"),
        (["all"] * 9, 5, "of 1 .all.: take fewer folds or another pattern of the group"),
    ],
)
def test_folds_that_cannot_be_are_refused(groups: list[str], folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grouped_folds(groups, folds)
