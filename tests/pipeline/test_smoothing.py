import cv2
import numpy as np
import pytest
import scipy.ndimage

from unet_keras.pipeline.fields import add_spline_rows
from unet_keras.pipeline.smoothing import DEGREE, filter_maps, smoothing_error, spline_rows

SIZES = [(96, 128), (97, 61), (9, 2), (1, 5)]
SIGMAS = [0.7, 2.5, 4.0, 8.0, 20.0]


def make_noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (2, *size)).astype(np.int8)


def smooth_by_splines(maps: np.ndarray, sigma: float) -> np.ndarray:
    rows = spline_rows(maps, sigma)
    return np.moveaxis(add_spline_rows(0.0, rows, maps.shape[1], degree=DEGREE), -1, 0)


def smooth_by_scipy(maps: np.ndarray, sigma: float) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(
        maps.astype(float), sigma, mode="mirror", truncate=4, axes=(1, 2)
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_splines_are_a_gaussian_within_the_stated_error(size, sigma):
    noise = make_noise(size)
    expected = smooth_by_scipy(noise, sigma)
    error = (smooth_by_splines(noise, sigma) - expected) / expected.std()
    assert np.abs(error).max() < 3e-3
    if min(size) > 60:  # few pixels are too small a sample of it
        stated = np.hypot(*(smoothing_error(side, sigma) for side in size)) + 1e-6
        assert stated < 4e-4
        assert np.sqrt((error**2).mean()) < 2 * stated


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_filter_is_a_gaussian(size, sigma):
    noise = make_noise(size)
    np.testing.assert_allclose(filter_maps(noise, sigma), smooth_by_scipy(noise, sigma), atol=1e-4)


@pytest.mark.parametrize("sigma", [4.0, 8.0])
def test_both_are_the_blur_of_opencv(sigma):
    noise = make_noise((120, 150))
    blurred = np.stack(
        [
            cv2.GaussianBlur(
                one.astype(np.float64), (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101
            )
            for one in noise
        ]
    )
    np.testing.assert_allclose(filter_maps(noise, sigma), blurred, atol=1e-5 * blurred.std())
    error = np.abs(smooth_by_splines(noise, sigma) - blurred).max()
    assert error < 2e-3 * blurred.std()


def test_a_constant_stays_as_it_is():
    maps = np.full((2, 40, 30), 5, np.float32)
    np.testing.assert_allclose(smooth_by_splines(maps, 6.0), 5.0, rtol=1e-5)
    np.testing.assert_allclose(filter_maps(maps, 6.0), 5.0, rtol=1e-5)
