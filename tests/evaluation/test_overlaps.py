"""Overlaps equal those of pycocotools and of plain loops; outlines of another size are refused."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest

from unet_keras.errors import InputError
from unet_keras.evaluation import overlaps as overlaps_module
from unet_keras.evaluation.overlaps import label_overlaps, outline_overlaps, outline_pixels


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]


def dense(overlaps):
    matrix = np.zeros((len(overlaps.truth_numbers), len(overlaps.predicted_numbers)))
    matrix[overlaps.truth_index, overlaps.predicted_index] = overlaps.iou
    return matrix


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (33, 57), (300, 211)])
def test_outline_pixels_decode_every_run_length_code(shape, density):
    random = np.random.default_rng(3)
    masks = random.random((6, *shape)) < density
    masks[3] = False
    owners, pixels = outline_pixels(encode(masks), shape)
    decoded = np.zeros((6, shape[0] * shape[1]), bool)
    decoded[owners, pixels] = True
    assert len(pixels) == masks.sum()
    np.testing.assert_array_equal(decoded.reshape(6, *shape[::-1]).transpose(0, 2, 1), masks)


@pytest.mark.parametrize("seed", range(10))
def test_outline_overlaps_equal_pycocotools(seed):
    random = np.random.default_rng(seed)
    size = tuple(int(side) for side in random.integers(5, 60, 2))
    masks = random.random((int(random.integers(1, 12)), *size)) < random.random()
    predicted = random.integers(0, 9, size).astype(np.uint16) * 5
    overlaps = outline_overlaps(encode(masks), predicted)
    parts = [predicted == number for number in overlaps.predicted_numbers]
    code = [
        [{"size": list(size), "counts": outline} for outline in encode(kind)]
        for kind in (masks, parts)
    ]
    expected = coco_mask.iou(code[0], code[1], [0] * len(parts))
    np.testing.assert_array_equal(dense(overlaps), expected)
    np.testing.assert_array_equal(overlaps.truth_areas, masks.sum((1, 2)))


def test_labels_with_gaps_keep_their_numbers():
    truth = np.array([[0, 5, 5, 9]], np.uint16)
    predicted = np.array([[70_000, 70_000, 2, 0]], np.uint32)
    overlaps = label_overlaps(truth, predicted)
    assert overlaps.truth_numbers.tolist() == [5, 9]
    assert overlaps.predicted_numbers.tolist() == [2, 70_000]
    np.testing.assert_allclose(dense(overlaps), [[1 / 2, 1 / 3], [0, 0]])


def test_nothing_true_or_nothing_predicted():
    empty, cells = np.zeros((4, 6), np.uint16), np.arange(24, dtype=np.uint16).reshape(4, 6)
    for truth, predicted in ((empty, cells), (cells, empty), (empty, empty)):
        overlaps = label_overlaps(truth, predicted)
        assert len(overlaps.truth_numbers) == truth.max()
        assert len(overlaps.predicted_numbers) == predicted.max()
        assert overlaps.shared.size == 0
    assert len(outline_overlaps([], cells).truth_numbers) == 0


def test_other_sizes_and_types_are_refused():
    labels = np.ones((4, 6), np.uint16)
    with pytest.raises(InputError, match=r"predicted label map has shape \(6, 4\)"):
        label_overlaps(labels, labels.T)
    with pytest.raises(InputError, match=r"outlines\[1\].*4 x 6"):
        outline_overlaps(encode([labels > 0, np.ones((5, 6))]), labels)
    with pytest.raises(InputError, match=r"outlines\[0\].*4 x 6"):
        outline_overlaps([b""], labels)
    with pytest.raises(InputError, match="must be integer, not float64"):
        label_overlaps(labels, labels.astype(float))
    with pytest.raises(InputError, match="label map holds -3"):
        label_overlaps(labels, np.full((4, 6), -3))


@pytest.mark.parametrize("limit", [0, 4, 50, 10**6])
def test_tables_and_sorting_give_the_same(monkeypatch, limit):
    random = np.random.default_rng(0)
    truth = random.integers(0, 12, (30, 20)) * 3
    predicted = random.integers(2, 9, (30, 20)).astype(np.uint32)
    expected = label_overlaps(truth, predicted)
    monkeypatch.setattr(overlaps_module, "_TABLE_CELLS", limit)
    found = label_overlaps(truth, predicted)
    for name in ("truth_numbers", "truth_areas", "predicted_numbers", "predicted_areas",
                 "truth_index", "predicted_index", "shared", "iou"):  # fmt: skip
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
