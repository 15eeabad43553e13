"""Instances of masks: connected components, and outlines as pycocotools would write them."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unet_keras.sources.label_outlines import label_components, trace_labels, trace_mask

MASK = np.array(
    [
        [1, 1, 0, 0, 2, 0],
        [1, 0, 0, 2, 2, 0],
        [0, 1, 0, 0, 0, 3],
        [0, 1, 2, 2, 0, 3],
    ],
    np.uint8,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
def test_outlines_equal_those_of_pycocotools(dtype, rng):
    for shape in ((1, 1), (1, 9), (9, 1), (17, 23)):
        labels = (rng.integers(0, 5, shape) * 37).astype(dtype)
        outlines, numbers = trace_labels(labels)
        assert numbers.tolist() == sorted(set(labels.ravel().tolist()) - {0})
        expected = [
            coco_mask.encode(np.asfortranarray(labels == number, np.uint8))["counts"]
            for number in numbers
        ]
        assert outlines == expected


def test_nothing_has_no_outlines():
    outlines, numbers = trace_labels(np.zeros((4, 5), np.uint8))
    assert outlines == []
    assert numbers.shape == (0,)


def test_components_share_a_side_and_a_value():
    labels, values = label_components(MASK)
    assert sorted(values.tolist()) == [1, 1, 2, 2, 3]
    assert len(np.unique(labels)) == 6
    for number, value in enumerate(values, start=1):
        assert (MASK[labels == number] == value).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_outlines_in_a_box_equal_those_of_pycocotools(share, rng):
    """Runs that reach from the last row into the next column, too."""
    for box, corner in (((7, 5), (3, 4)), ((10, 4), (0, 2)), ((10, 12), (0, 0)), ((0, 0), (3, 3))):
        mask = rng.random(box) < share
        whole = np.zeros((10, 12), np.uint8)
        whole[corner[0] : corner[0] + box[0], corner[1] : corner[1] + box[1]] = mask
        expected = coco_mask.encode(np.asfortranarray(whole))["counts"]
        assert trace_mask(mask, corner, whole.shape) == expected
