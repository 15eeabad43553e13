import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from unet_keras.inference.windows import (
    Window,
    mirrored,
    plan_windows,
    plan_windows_op,
    read_stretch_op,
    read_window,
)
from unet_keras.model.geometry import UNetGeometry, valid_tile_sizes

SAME = UNetGeometry(2, "same", 0, 4, 23)
VALID = UNetGeometry(2, "valid", 20, 4, 23)
VALID_2015 = UNetGeometry(4, "valid", 92, 16, 107)


@given(st.integers(1, 300), st.integers(1, 320), st.none() | st.integers(0, 40))
def test_windows_of_same_padding_cover_the_axis_once_on_the_grid(length, tile, halo):
    windows = plan_windows(length, tile, SAME, halo=halo)
    check_cover(windows, length)
    context = SAME.receptive_pixels if halo is None else halo
    for window in windows:
        begin, end = window.start, window.start + window.length
        assert begin % 4 == 0
        assert window.length % 4 == 0
        assert begin >= 0
        assert end <= -(-length // 4) * 4
        assert begin == 0 or window.core[0] - begin >= context
        assert end >= length or end - window.core[1] >= context


@given(st.integers(1, 900), st.integers(1, 950), st.sampled_from([VALID, VALID_2015]))
def test_windows_of_valid_convolutions_cover_the_axis_once_on_the_grid(length, tile, geometry):
    windows = plan_windows(length, tile, geometry)
    check_cover(windows, length)
    margin = geometry.margin_pixels
    assert windows[0].length in valid_tile_sizes(geometry.depth, largest=2000)
    for window in windows:
        assert (window.start + margin) % geometry.multiple_pixels == 0
        assert window.start + margin <= window.core[0]
        assert window.core[1] <= window.start + window.length - margin


def check_cover(windows, length):
    assert [window.core[0] for window in windows[1:]] == [w.core[1] for w in windows[:-1]]
    assert windows[0].core[0] == 0
    assert windows[-1].core[1] == length
    assert len({window.length for window in windows}) == 1
    assert all(start < stop for start, stop in (window.core for window in windows))


@pytest.mark.parametrize("geometry", [SAME, VALID])
def test_windows_are_as_short_as_their_number_allows(geometry):
    context = 20 if geometry is VALID else 24
    for length in range(60, 200):
        windows = plan_windows(length, 50, geometry)
        shorter = windows[0].length - 2 * context - 4
        if len(windows) > 1 and shorter >= 4:
            assert len(plan_windows(length, shorter, geometry)) > len(windows)


@given(st.integers(1, 9), st.integers(-30, 30), st.integers(1, 40))
def test_mirrors_as_numpy_does(length, start, count):
    row = np.arange(length)
    far = np.pad(row, 200, mode="reflect")
    expected = far[200 + start : 200 + start + count]
    np.testing.assert_array_equal(row[mirrored(np.arange(start, start + count), length)], expected)


def test_windows_are_read_with_mirrors(rng):
    image = rng.integers(0, 256, (6, 5, 2))
    far = np.pad(image, ((20, 40), (20, 40), (0, 0)), mode="reflect")
    for top, left, size in ((0, 0, 4), (-7, 2, 9), (3, -12, 30), (4, 3, 1)):
        window = read_window(image, Window(top, size, (0, 1)), Window(left, size, (0, 1)))
        expected = far[20 + top : 20 + top + size, 20 + left : 20 + left + size]
        np.testing.assert_array_equal(window, expected)
        stretch = read_stretch_op(tf.constant(image[None]), 1, top, tf.constant(size))
        stretch = read_stretch_op(stretch, 2, left, tf.constant(size))
        np.testing.assert_array_equal(stretch[0], expected)


@pytest.mark.parametrize("geometry", [SAME, VALID, VALID_2015])
def test_the_graph_plans_windows_as_predict_tiled_does(geometry):
    plan = tf.function(
        lambda length, tile: plan_windows_op(length, tile, geometry),
        input_signature=[tf.TensorSpec((), tf.int32)] * 2,
    )
    for length in [*range(1, 30), 188, 189, 571, 1000]:
        for tile in (1, 5, 47, 388, 389, 2000):
            starts, stops, window = plan(length, tile)
            expected = plan_windows(length, tile, geometry)
            assert starts.numpy().tolist() == [window.start for window in expected]
            assert stops.numpy().tolist() == [window.core[1] for window in expected]
            assert {int(window)} == {window.length for window in expected}
