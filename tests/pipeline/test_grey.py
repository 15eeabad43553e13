import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from unet_keras.pipeline import grey


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(50, 200, (3, 31, 40, 2)).astype(np.float32)


def test_contrast_turns_about_the_mean(images):
    changed = grey.change_contrast(images, tf.constant([0.5, 1.0, 2.0]), 120.0).numpy()
    np.testing.assert_allclose(changed[0] - 120, (images[0] - 120) / 2, atol=1e-4)
    np.testing.assert_allclose(changed[2] - 120, (images[2] - 120) * 2, atol=1e-4)


def test_brightness_is_a_share_of_the_scale(images):
    changed = grey.change_brightness(images, tf.constant([0.0, 0.1, -1.0]), 40.0).numpy()
    np.testing.assert_allclose(
        (changed - images).mean(axis=(1, 2, 3)), [0.0, 4.0, -40.0], atol=1e-4
    )


@pytest.mark.parametrize("offset", [0.0, -1000.0, 60000.0])
def test_gamma_keeps_extremes_and_order_in_any_range(images, offset):
    changed = grey.change_gamma(images + offset, tf.constant([0.5, 1.0, 2.0])).numpy()
    for image, result in zip(images + offset, changed, strict=True):
        np.testing.assert_allclose(result.min(), image.min(), rtol=1e-5)
        np.testing.assert_allclose(result.max(), image.max(), rtol=1e-5)
        assert (np.diff(result.ravel()[np.argsort(image, axis=None)]) >= -0.02).all()
    assert changed[0].mean() > (images[0] + offset).mean() > 0 or offset < 0


def test_gamma_leaves_a_uniform_image_as_it_is():
    images = tf.fill([1, 4, 4, 1], 7.0)
    np.testing.assert_array_equal(grey.change_gamma(images, tf.constant([0.5])), images)


def test_noise_is_a_share_of_the_scale(images):
    noise = np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    changed = grey.add_noise(images, noise, tf.constant([0.0, 0.1, 0.2]), 40.0).numpy()
    deviations = (changed - images).std(axis=(1, 2, 3))
    np.testing.assert_allclose(deviations, [0, 4, 8], rtol=0.05)


def test_blur_is_a_gaussian_of_its_own_for_each_image(images):
    sigmas = np.array([0.0, 0.8, 2.5], np.float32)
    blurred = grey.blur(images, sigmas).numpy()
    np.testing.assert_array_equal(blurred[0], images[0])
    for image, result, sigma in zip(images[1:], blurred[1:], sigmas[1:], strict=True):
        expected = scipy.ndimage.gaussian_filter(
            image.astype(float), sigma, mode="mirror", truncate=8, axes=(0, 1)
        )
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 3)])
def test_the_smallest_images_stay_within_their_range(size):
    images = np.random.default_rng(0).uniform(0, 1, (1, *size, 1)).astype(np.float32)
    for result in (
        grey.blur(images, tf.constant([3.0])),
        grey.change_gamma(images, tf.constant([2.0])),
    ):
        assert np.isfinite(result).all()
        assert images.min() - 1e-6 <= result.numpy().min()
        assert result.numpy().max() <= images.max() + 1e-6
