import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import find_boundaries

from unet_keras.pipeline import geometry
from unet_keras.pipeline.sampling import sample_field
from unet_keras.pipeline.touching import extend_border, outline_pixels, separate_touching
from unet_keras.targets.borders import border_map
from unet_keras.targets.labels import outline_pixels as outline_pixels_of_arrays
from unet_keras.targets.labels import separate_touching as separate_in_numpy


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    instances=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_separation_is_that_of_the_targets(size, instances, seed):
    labels = np.random.default_rng(seed).integers(0, instances + 1, (3, *size)).astype(np.int32)
    separated = separate_touching(labels).numpy()
    for one, result in zip(labels, separated, strict=True):
        np.testing.assert_array_equal(result, separate_in_numpy(one.astype(np.uint16)))
        np.testing.assert_array_equal(separate_touching(one), result)


def test_separation_leaves_images_of_a_batch_apart():
    labels = np.stack([np.full((4, 4), k, np.int32) for k in (1, 2)])
    np.testing.assert_array_equal(separate_touching(labels), labels)


def touching_pair() -> np.ndarray:
    """Two halves of a disk, with no background between them."""
    rows, columns = np.mgrid[:128, :128]
    disk = (rows - 64) ** 2 + (columns - 64) ** 2 < 45**2
    return np.where(disk, np.where(columns < 64, 1, 2), 0).astype(np.uint16)


def lines(labels: np.ndarray, coordinates: tf.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the border map on the line between warped cells: plain, extended and exact."""
    separated = separate_in_numpy(labels)
    border = border_map(separated)
    extended = extend_border(tf.constant(border), tf.constant(separated > 0))
    warped = geometry.warp(labels, coordinates, nearest=True).numpy()
    line = (warped > 0) & (separate_in_numpy(warped) == 0)
    assert line.sum() > 100
    maps = [geometry.warp(one, coordinates).numpy() for one in (border, extended)]
    return *(one[line] for one in maps), border_map(separate_in_numpy(warped))[line]


@pytest.mark.parametrize("angle", [17.0, 30.0, 45.0, 73.0])
def test_the_line_between_turned_cells_keeps_its_weight(angle):
    coordinates = geometry.affine_coordinates(
        (128, 128), geometry.rotation_matrix(angle), [63.5, 63.5]
    )
    plain, extended, exact = lines(touching_pair(), coordinates)
    assert np.abs(extended - exact).mean() < 0.06
    assert np.abs(extended - exact).max() < 0.12
    assert extended.min() > 0.75
    # What is avoided: zeros of the foreground mixed in.
    assert np.abs(plain - exact).mean() > 0.09


def test_the_line_between_deformed_cells_keeps_its_weight():
    plain, extended, exact = lines(touching_pair(), sample_field(3, (128, 128)))
    assert np.abs(extended - exact).mean() < 0.02
    assert np.abs(plain - exact).mean() > 0.04


def test_extension_changes_nothing_outside_the_foreground():
    separated = separate_in_numpy(touching_pair())
    border = border_map(separated)
    extended = extend_border(border, separated > 0).numpy()
    np.testing.assert_array_equal(extended[separated == 0], border[separated == 0])
    assert 0 <= extended.min() <= extended.max() <= border.max() + 1e-6
    # Two pixels deep, no further.
    depth = [extended[64, 64 + k] > 0 for k in range(5)]
    assert depth == [True, True, True, False, False]


def test_extension_of_nothing_but_foreground_is_zero():
    extended = extend_border(np.ones((4, 5), np.float32), np.ones((4, 5), bool))
    np.testing.assert_array_equal(extended, np.zeros((4, 5)))


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    instances=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_outlines_are_those_of_scikit_image(size, instances, seed):
    labels = np.random.default_rng(seed).integers(0, instances + 1, (3, *size)).astype(np.int32)
    for one, outline in zip(labels, outline_pixels(labels).numpy(), strict=True):
        np.testing.assert_array_equal(outline, find_boundaries(one, connectivity=1, mode="inner"))
    for width in (1, 2, 3):
        for one, outline in zip(labels, outline_pixels(labels, width).numpy(), strict=True):
            np.testing.assert_array_equal(outline, outline_pixels_of_arrays(one, width))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_wide_outlines_are_what_erosion_takes(width):
    labels = np.zeros((40, 50), np.uint16)
    labels[3:20, 4:30] = 1
    labels[20:38, 10:30] = 2  # touches the first
    labels[5:30, 35:50] = 3  # reaches the image's edge, which is no outline
    taken = np.zeros(labels.shape, bool)
    for number in (1, 2, 3):
        cell = np.pad(labels == number, width, mode="edge")
        kept = ndimage.binary_erosion(cell, iterations=width)[width:-width, width:-width]
        taken |= (labels == number) & ~kept
    np.testing.assert_array_equal(outline_pixels_of_arrays(labels, width), taken)
