import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import label as skimage_label

from tests.inference.random_cells import random_cells, segmentation_accuracy, separate
from unet_keras.errors import InputError
from unet_keras.inference.instances import (
    fill_enclosed_holes,
    grow_into_gaps,
    label_instances,
    split_at_saddles,
)

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@pytest.mark.parametrize("seed", range(3))
def test_separated_truth_comes_back(seed):
    truth = random_cells(seed)
    found = label_instances((separate(truth) > 0).astype(np.float32))
    assert segmentation_accuracy(truth, found) >= 0.9


def test_growing_back_helps_and_merged_cells_score_low():
    truth = random_cells(0)
    foreground = separate(truth) > 0
    grown = segmentation_accuracy(truth, label_instances(foreground))
    assert grown > segmentation_accuracy(truth, label_instances(foreground, grow=False))
    assert segmentation_accuracy(truth, label_instances(truth > 0)) < 0.3


@settings(max_examples=100, deadline=None)
@given(masks)
def test_components_are_those_of_scikit_image_and_numbered_by_row(mask):
    found = label_instances(mask, fill_holes=False, grow=False)
    np.testing.assert_array_equal(found, skimage_label(mask, connectivity=1))


@settings(max_examples=100, deadline=None)
@given(masks)
def test_filling_the_holes_of_one_instance_equals_scipy(mask):
    labels, count = ndimage.label(mask)
    filled = fill_enclosed_holes(labels)
    for number in range(1, count + 1):
        single = labels == number
        alone = fill_enclosed_holes(single.astype(np.int32)) > 0
        # SciPy lets background leak over edges only; ours leaks over corners as well.
        expected = ndimage.binary_fill_holes(single, structure=np.ones((3, 3)))
        np.testing.assert_array_equal(alone, expected)
        assert not ((filled == number) & ~expected).any()
    np.testing.assert_array_equal(filled[mask], labels[mask])


def test_a_ring_around_a_nested_cell_is_no_hole():
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    labels[2:7, 2:7] = 0
    np.testing.assert_array_equal(np.unique(fill_enclosed_holes(labels)[2:7, 2:7]), [1])
    labels[4, 4] = 2
    np.testing.assert_array_equal(fill_enclosed_holes(labels), labels)


def test_nested_cells_survive_separation_and_growth():
    truth = np.zeros((40, 40), np.int32)
    truth[5:35, 5:35] = 1
    truth[15:25, 15:25] = 2
    found = label_instances(separate(truth) > 0)
    # The three pixels at a right-angled corner have lost all they could grow from.
    assert (found != truth).sum() == 4 * 3
    np.testing.assert_array_equal(found[found != truth], 0)


def test_cells_that_meet_at_a_corner_stay_two():
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = mask[4:, 4:] = True
    assert label_instances(mask).max() == 2


@settings(max_examples=100, deadline=None)
@given(masks, st.integers(0, 3))
def test_growing_keeps_instances_and_grows_into_gaps_only(mask, pixels):
    labels, _ = ndimage.label(mask)
    grown = grow_into_gaps(labels, pixels)
    np.testing.assert_array_equal(grown[mask], labels[mask])
    gained = (grown > 0) & ~mask
    if labels.max() < 2:
        assert not gained.any()
    if gained.any():
        distance = ndimage.distance_transform_edt(~mask)
        assert distance[gained].max() <= pixels
        # A tie may go either way, but no instance takes a pixel that is nearer to another.
        for row, column in zip(*np.nonzero(gained), strict=True):
            own = ndimage.distance_transform_edt(labels != grown[row, column])[row, column]
            assert own == pytest.approx(distance[row, column])
    assert set(np.unique(grown)) <= set(np.unique(labels)) | {0}


def test_an_outline_beside_background_stays():
    labels = np.zeros((10, 30), np.int32)
    labels[3:7, 3:9] = 1
    labels[3:7, 15:20] = 2
    np.testing.assert_array_equal(grow_into_gaps(labels, 2), labels)


def test_a_wider_gap_is_closed_by_more_pixels():
    labels = np.zeros((10, 20), np.int32)
    labels[2:8, 2:8] = 1
    labels[2:8, 12:18] = 2
    np.testing.assert_array_equal(grow_into_gaps(labels, 1), labels)
    closed = grow_into_gaps(labels, 2)
    np.testing.assert_array_equal(closed[2:8, 2:18], [[1] * 8 + [2] * 8] * 6)
    np.testing.assert_array_equal(np.argwhere(closed > 0).min(axis=0), [2, 2])


def test_small_objects_go_and_numbers_close_up():
    mask = np.zeros((20, 20), bool)
    mask[0, 0] = mask[2, 2:5] = mask[5:15, 5:15] = True
    assert label_instances(mask).max() == 3
    found = label_instances(mask, minimum_area=4)
    assert found.max() == 1
    assert found[10, 10] == 1
    assert not found[:5].any()


def test_threshold_counts_itself_in():
    probabilities = np.array([[0.2, 0.5, 0.8]], np.float32)
    assert (label_instances(probabilities) > 0).tolist() == [[False, True, True]]
    assert (label_instances(probabilities, threshold=0.8) > 0).tolist() == [[False, False, True]]


def test_watershed_parts_what_blurring_joined():
    truth = random_cells(1)
    blurred = ndimage.gaussian_filter((separate(truth) > 0).astype(np.float32), 1.0).clip(0, 1)
    joined = segmentation_accuracy(truth, label_instances(blurred))
    parted = segmentation_accuracy(truth, label_instances(blurred, method="watershed"))
    assert parted > 0.7 > joined


def test_watershed_on_a_distance_map():
    mask = np.zeros((21, 41), bool)
    grid = np.stack(np.mgrid[:21, :41], axis=-1)
    for center in ((10, 12), (10, 28)):
        mask |= np.linalg.norm(grid - center, axis=-1) <= 9
    distance = ndimage.distance_transform_edt(mask)
    distance = (distance / distance.max()).astype(np.float32)
    assert label_instances(mask).max() == 1
    assert label_instances(mask, method="watershed").max() == 1
    parted = label_instances(mask, method="watershed", distance=distance[..., None])
    assert parted.max() == 2
    np.testing.assert_array_equal(parted[mask] > 0, True)
    merged = label_instances(mask, method="watershed", distance=distance, seed_prominence=0.9)
    assert merged.max() == 1


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_watershed_covers_the_mask_and_refines_components(mask, seed, prominence):
    landscape = np.random.default_rng(seed).random(mask.shape, np.float32)
    parts = split_at_saddles(mask, landscape, prominence=prominence)
    np.testing.assert_array_equal(parts > 0, mask)
    components, _ = ndimage.label(mask)
    for number in range(1, parts.max() + 1):
        part = parts == number
        assert part.any()
        assert len(np.unique(components[part])) == 1
        assert ndimage.label(part)[1] == 1


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_shapes_types_and_repeatability(method):
    truth = random_cells(2)
    probabilities = np.where(separate(truth) > 0, 0.9, 0.1).astype(np.float32)
    found = label_instances(probabilities, method=method)
    assert found.dtype == np.uint16
    assert found.shape == truth.shape
    np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
    again = label_instances(probabilities[..., None], method=method)
    np.testing.assert_array_equal(found, again)
    before = probabilities.copy()
    label_instances(probabilities, method=method, minimum_area=5)
    np.testing.assert_array_equal(probabilities, before)


@pytest.mark.parametrize("method", ["components", "watershed"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (0, 4)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_tiny_and_uniform_images(method, shape, value):
    found = label_instances(np.full(shape, value, np.float32), method=method)
    np.testing.assert_array_equal(found, np.full(shape, value, np.uint16))


def test_more_than_65535_instances():
    mask = np.zeros((700, 400), bool)
    mask[::2, ::2] = True
    found = label_instances(mask, grow=False)
    assert found.dtype == np.uint32
    assert found.max() == 350 * 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probabilities": np.zeros((4, 4, 3))}, r"shape \(4, 4, 3\), expected \(H, W\)"),
        ({"probabilities": np.full((4, 4), -3.0)}, "not logits"),
        ({"probabilities": np.full((4, 4), np.nan)}, "nan"),
        ({"method": "voodoo"}, "voodoo.*components, watershed"),
        ({"minimum_area": -1}, "minimum_area=-1"),
        ({"grow_pixels": -2}, "grow_pixels=-2"),
        ({"method": "watershed", "distance": np.zeros((5, 4))}, r"\(5, 4\).*\(4, 4\)"),
    ],
)
def test_errors_say_what_came(arguments, message):
    with pytest.raises(InputError, match=message):
        label_instances(**{"probabilities": np.zeros((4, 4)), **arguments})
