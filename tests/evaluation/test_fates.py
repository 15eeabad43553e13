"""What became of each true instance: drawn by hand, and counts that always add up."""

import numpy as np
import pytest

from unet_keras.evaluation.fates import Fates, count_fates
from unet_keras.evaluation.instances import best_matches
from unet_keras.evaluation.overlaps import label_overlaps, outline_overlaps

from .made_cases import made_case


def fates(truth, predicted):
    rows = (np.array([[int(c) for c in row.replace(".", "0")] for row in drawing.split()])
            for drawing in (truth, predicted))  # fmt: skip
    return count_fates(label_overlaps(*rows))


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ("1111.2222.", "3333.4444.", Fates(found=2)),
        ("1111.2222.", "3333333333", Fates(merged=2)),
        # a larger cell matches although it swallowed a small one, which is merged into it
        ("111111.2..", "33333333..", Fates(found=1, merged=1)),
        ("1111111111", "3333.44.55", Fates(split=1)),
        ("1111111111", "33333.4445", Fates(found=1)),
        ("1111......", "..........", Fates(missed=1)),
        ("1111......", "...3......", Fates(missed=1)),
        ("11111.....", "..3333333.", Fates(inexact=1)),
        ("..........", ".33...44..", Fates(false=2)),
        ("111.......", "..33333...", Fates(missed=1, false=1)),
        ("..........", "..........", Fates()),
    ],
)
def test_by_hand(truth, predicted, expected):
    assert fates(truth, predicted) == expected


@pytest.mark.parametrize("seed", range(8))
def test_each_true_instance_has_one_fate(seed):
    case = made_case(seed, cells=30, size=(100, 120))
    predicted = np.roll(case["predicted_labels"], seed, axis=(0, 1)) // (1 + seed % 3)
    overlaps = outline_overlaps(case["outlines"], predicted)
    counted = count_fates(overlaps)
    assert sum(vars(counted).values()) - counted.false == len(case["outlines"])
    assert counted.found == len(best_matches(overlaps))
    assert counted.false <= len(overlaps.predicted_numbers) - counted.found


def test_counts_add_up():
    assert Fates(1, 2, 3, 4, 5, 6) + Fates(false=1) == Fates(1, 2, 3, 4, 5, 7)
    assert Fates(found=2).named()["found_instances"] == 2
