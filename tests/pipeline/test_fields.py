import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_keras.pipeline import fields


def scipy_field(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    places = np.meshgrid(
        *(np.linspace(0, n - 1, side) for n, side in zip(grid.shape, size, strict=False)),
        indexing="ij",
    )
    planes = [
        scipy.ndimage.map_coordinates(grid[..., k].astype(float), places, order=3, mode="mirror")
        for k in (0, 1)
    ]
    return np.stack(planes, axis=-1)


@settings(deadline=None)
@given(
    grid=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    seed=st.integers(0, 99),
)
def test_field_is_the_cubic_spline_of_its_grid(grid, size, seed):
    values = np.random.default_rng(seed).normal(0, 10, (*grid, 2)).astype(np.float32)
    np.testing.assert_allclose(
        fields.dense_field(values, size).numpy(), scipy_field(values, size), atol=3e-5
    )


def test_a_field_of_one_pixel_has_the_first_displacement():
    grid = np.random.default_rng(0).normal(0, 10, (3, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(fields.dense_field(grid, (1, 1))[0, 0], grid[0, 0], rtol=1e-5)


def test_constant_displacements_make_a_constant_field():
    field = fields.dense_field(tf.fill([3, 3, 2], 7.0), (33, 21))
    np.testing.assert_allclose(field, 7.0, rtol=1e-6)


def test_batched_fields_equal_single_ones():
    grids = np.random.default_rng(0).normal(0, 10, (4, 3, 5, 2)).astype(np.float32)
    batch = fields.dense_field(grids, (40, 31)).numpy()
    for grid, field in zip(grids, batch, strict=True):
        np.testing.assert_allclose(fields.dense_field(grid, (40, 31)), field, atol=1e-5)


def test_field_gain_bounds_the_field():
    rng = np.random.default_rng(0)
    gain = fields.field_gain((3, 4), (50, 70))
    assert 1 <= gain < 2
    for _ in range(50):
        grid = rng.choice([-1.0, 1.0], (3, 4, 2)).astype(np.float32)
        assert np.abs(fields.dense_field(grid, (50, 70))).max() <= gain + 1e-5


@pytest.mark.parametrize("degree", [3, 5])
def test_splines_add_up_to_one_in_every_pixel(degree):
    basis = fields.spline_basis(6, 31, degree)
    assert basis.shape == (31, 6 + degree - 1)
    np.testing.assert_allclose(basis.sum(axis=1), 1, rtol=1e-12)
    assert basis.min() >= -1e-12


def test_a_grid_needs_two_displacements_in_each_direction():
    with pytest.raises(ValueError, match="a grid of 1 in one direction"):
        fields.dense_field(np.zeros((1, 3, 2), np.float32), (8, 8))
