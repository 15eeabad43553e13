import cv2
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_keras.pipeline import fields, geometry

sides = st.integers(1, 24)


def make_image(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(size, np.float32)


def make_labels(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 300, size).astype(np.int32)


def make_coordinates(size: tuple[int, int], spread: float, seed: int = 0) -> np.ndarray:
    """Places up to `spread` times the image's size away from it."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(-spread, spread + 1, (13, 17, 2)) * size).astype(np.float32)


def turned(size: tuple[int, int], angle_degrees: float, field: tf.Tensor) -> tf.Tensor:
    center = [(side - 1) / 2 for side in size]
    matrix = geometry.rotation_matrix(angle_degrees)
    return geometry.affine_coordinates(size, matrix, center) + field


class TestAgainstElasticdeform:
    """One grey range is 1 in these images of pure noise, the hardest to hit."""

    @pytest.fixture(scope="class")
    def elasticdeform(self):
        return pytest.importorskip("elasticdeform", reason="built with a C compiler only")

    @pytest.mark.parametrize("size", [(520, 704), (63, 96), (64, 33), (2, 3)])
    @pytest.mark.parametrize("grid", [(3, 3), (2, 5), (7, 4)])
    @pytest.mark.parametrize("angle", [0.0, 30.0, -117.0])
    def test_deformation_and_rotation(self, elasticdeform, size, grid, angle):
        displacements = np.random.default_rng(1).normal(0, 10, (2, *grid))
        image, labels = make_image(size), make_labels(size)
        expected_image, expected_labels = elasticdeform.deform_grid(
            [image.astype(float), labels], displacements, order=[1, 0], mode="mirror", rotate=angle
        )
        field = fields.dense_field(np.moveaxis(displacements, 0, -1), size)
        coordinates = turned(size, angle, field)
        np.testing.assert_allclose(
            geometry.warp(image, coordinates).numpy(), expected_image, atol=1e-4
        )
        warped = geometry.warp(labels, coordinates, nearest=True).numpy()
        assert (warped != expected_labels).mean() <= 1e-3

    def test_batches(self, elasticdeform):
        size, rng = (40, 50), np.random.default_rng(2)
        displacements = rng.normal(0, 10, (3, 2, 3, 3))
        images = np.stack([make_image(size, seed) for seed in range(3)])
        grids = np.moveaxis(displacements, 1, -1)
        coordinates = geometry.identity_coordinates(size) + fields.dense_field(grids, size)
        warped = geometry.warp(images, coordinates).numpy()
        for k in range(3):
            expected = elasticdeform.deform_grid(
                images[k].astype(float), displacements[k], order=1, mode="mirror"
            )
            np.testing.assert_allclose(warped[k], expected, atol=1e-4)

    def test_zoom(self, elasticdeform):
        size = (45, 60)
        image = make_image(size)
        expected = elasticdeform.deform_grid(
            image.astype(float), np.zeros((2, 3, 3)), order=1, mode="mirror", zoom=1.3
        )
        matrix = geometry.rotation_matrix(0.0) / 1.3
        coordinates = geometry.affine_coordinates(size, matrix, [22.0, 29.5])
        np.testing.assert_allclose(geometry.warp(image, coordinates), expected, atol=1e-4)


class TestSampling:
    @settings(max_examples=50, deadline=None)
    @given(height=sides, width=sides, seed=st.integers(0, 99))
    def test_equals_scipy_at_any_size_and_distance(self, height, width, seed):
        size = (height, width)
        image, coordinates = make_image(size, seed), make_coordinates(size, 3, seed)
        places = np.moveaxis(coordinates.astype(float), -1, 0)
        for order in (1, 3):
            expected = scipy.ndimage.map_coordinates(
                image.astype(float), places, order=order, mode="mirror"
            )
            warped = geometry.warp(image, coordinates, order=order).numpy()
            np.testing.assert_allclose(warped, expected, atol=5e-5)
        warped = geometry.warp(image, coordinates, nearest=True).numpy()
        expected = scipy.ndimage.map_coordinates(image, places, order=0, mode="mirror")
        assert (warped != expected).mean() <= 0.01

    @settings(max_examples=50, deadline=None)
    @given(height=sides, width=sides, spread=st.floats(0, 1e3), seed=st.integers(0, 99))
    def test_stays_within_range_and_set(self, height, width, spread, seed):
        size = (height, width)
        coordinates = make_coordinates(size, spread, seed)
        image, labels = make_image(size, seed), make_labels(size, seed)
        warped = geometry.warp(image, coordinates).numpy()
        assert np.isfinite(warped).all()
        assert image.min() - 1e-6 <= warped.min()
        assert warped.max() <= image.max() + 1e-6
        assert np.isfinite(geometry.warp(image, coordinates, order=3).numpy()).all()
        taken = geometry.warp(labels, coordinates, nearest=True).numpy()
        assert np.isin(taken, labels).all()

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 2), (31, 64)])
    def test_identity_is_exact(self, size):
        coordinates = geometry.identity_coordinates(size)
        image, labels = make_image(size), make_labels(size)
        np.testing.assert_array_equal(geometry.warp(image, coordinates), image)
        np.testing.assert_array_equal(geometry.warp(labels, coordinates, nearest=True), labels)
        np.testing.assert_allclose(geometry.warp(image, coordinates, order=3), image, atol=2e-6)

    @pytest.mark.parametrize("size", [(5, 7), (8, 8), (6, 9), (1, 4)])
    @pytest.mark.parametrize("quarters", range(-4, 5))
    def test_right_angles_are_rot90(self, size, quarters):
        image = make_image(size)
        expected = np.rot90(image, quarters)
        coordinates = geometry.affine_coordinates(
            expected.shape,
            geometry.rotation_matrix(90.0 * quarters),
            [(side - 1) / 2 for side in size],
        )
        np.testing.assert_array_equal(geometry.warp(image, coordinates), expected)
        np.testing.assert_array_equal(geometry.warp(image, coordinates, nearest=True), expected)

    def test_a_reflecting_matrix_is_a_flip(self):
        image = make_image((6, 9))
        for signs, axes in (((-1, 1), 0), ((1, -1), 1), ((-1, -1), (0, 1))):
            coordinates = geometry.affine_coordinates((6, 9), np.diag(signs), [2.5, 4.0])
            np.testing.assert_array_equal(geometry.warp(image, coordinates), np.flip(image, axes))

    def test_a_shifted_center_is_a_crop(self):
        image = make_image((30, 40))
        coordinates = geometry.affine_coordinates((8, 11), np.eye(2), [5 + 3.5, 20 + 5.0])
        np.testing.assert_array_equal(geometry.warp(image, coordinates), image[5:13, 20:31])

    def test_a_field_and_its_inverse_give_the_image_back(self):
        # Each linear interpolation of a wave of amplitude 1 and length L is off by less than
        # (2 pi / L)^2 / 8 in each direction; two times two of them.
        size, length = (96, 96), 24.0
        rows, columns = np.mgrid[: size[0], : size[1]]
        wave = np.sin(2 * np.pi * rows / length) * np.sin(2 * np.pi * columns / length)
        grid = np.random.default_rng(0).normal(0, 2, (3, 3, 2))
        field = fields.dense_field(grid, size).numpy()
        inverse = np.zeros_like(field)
        identity = geometry.identity_coordinates(size).numpy()
        for _ in range(30):
            inverse = -geometry.warp(field, identity + inverse).numpy()
        there = geometry.warp(wave, identity + field)
        back = geometry.warp(there, identity + inverse).numpy()
        inner = (slice(12, -12),) * 2
        assert np.abs(back - wave)[inner].max() < 4 * (2 * np.pi / length) ** 2 / 8

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float64])
    def test_nearest_keeps_the_dtype(self, dtype):
        labels = make_labels((9, 9)).astype(dtype)
        warped = geometry.warp(labels, make_coordinates((9, 9), 1), nearest=True)
        assert warped.dtype == dtype
        assert geometry.warp(labels, make_coordinates((9, 9), 1)).dtype == tf.float32

    def test_large_numbers_stay_exact(self):
        labels = np.array([[2**31 - 1, 2**24 + 1]], np.int32)
        warped = geometry.warp(labels, [[[0.0, 1.2], [0.3, -0.4]]], nearest=True)
        np.testing.assert_array_equal(warped, labels[:, ::-1])

    def test_coordinates_of_double_precision(self):
        image = make_image((2, 3000))
        coordinates = np.stack(
            [np.full((1, 500), 0.25), np.linspace(2000, 2900, 500)[None]], axis=-1
        )
        expected = scipy.ndimage.map_coordinates(
            image.astype(float), np.moveaxis(coordinates, -1, 0), order=1, mode="mirror"
        )
        np.testing.assert_allclose(geometry.warp(image, coordinates), expected, atol=1e-6)

    def test_equals_the_remap_of_opencv(self):
        # OpenCV before 5 rounds places to 1/32 pixel.
        size = (80, 90)
        rows, columns = np.mgrid[: size[0], : size[1]]
        image = (np.sin(rows / 9) + np.cos(columns / 7)).astype(np.float32)
        steepest = 1 / 9 + 1 / 7
        coordinates = make_coordinates(size, 0.3)
        remapped = cv2.remap(
            image,
            coordinates[..., 1],
            coordinates[..., 0],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        np.testing.assert_allclose(geometry.warp(image, coordinates), remapped, atol=steepest / 32)


class TestShapes:
    def test_every_rank_gives_the_same_pixels(self):
        images = np.stack([make_image((12, 14), seed) for seed in range(2)])
        coordinates = np.stack([make_coordinates((12, 14), 0.4, seed) for seed in range(2)])
        batch = geometry.warp(images[..., None], coordinates).numpy()
        assert batch.shape == (2, 13, 17, 1)
        np.testing.assert_array_equal(geometry.warp(images, coordinates), batch[..., 0])
        for image, places, result in zip(images, coordinates, batch, strict=True):
            np.testing.assert_array_equal(geometry.warp(image, places), result[..., 0])
            np.testing.assert_array_equal(geometry.warp(image[..., None], places), result)

    def test_shared_coordinates_serve_a_batch(self):
        images = np.stack([make_image((12, 14), seed) for seed in range(3)])[..., None]
        coordinates = make_coordinates((12, 14), 0.4)
        repeated = np.repeat(coordinates[None], 3, axis=0)
        for options in ({}, {"order": 3}, {"nearest": True}):
            np.testing.assert_allclose(
                geometry.warp(images, coordinates, **options),
                geometry.warp(images, repeated, **options),
                atol=1e-6,
            )

    @pytest.mark.parametrize("options", [{}, {"order": 3}, {"nearest": True}])
    def test_graph_map_and_compiler_agree_with_eager(self, options):
        image, coordinates = make_image((20, 30)), make_coordinates((20, 30), 0.5)

        def warp(image: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
            return geometry.warp(image, places, **options)

        eager = warp(image, coordinates).numpy()
        unknown = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None, 2])
        graph = tf.function(warp, input_signature=unknown)
        np.testing.assert_allclose(graph(image, coordinates), eager, atol=1e-6)
        compiled = tf.function(warp, jit_compile=True)
        np.testing.assert_allclose(compiled(image, coordinates), eager, atol=1e-6)
        data = tf.data.Dataset.from_tensors((image, coordinates)).map(compiled)
        np.testing.assert_allclose(next(iter(data)), eager, atol=1e-6)

    @pytest.mark.parametrize(
        ("image", "coordinates", "message"),
        [
            ((4, 4), (4, 4), "row and column of the source"),
            ((4, 4), (3, 3, 3), "must be \\(H', W', 2\\)"),
            ((4, 4), (1, 4, 4, 2), "does not go with"),
            ((4,), (4, 4, 2), "does not go with"),
            ((4, 4, 3), (1, 4, 4, 2), "does not go with"),
            ((3, 4, 4), (2, 4, 4, 2), "does not go with"),
            ((3, 4, 4, 1), (2, 4, 4, 2), "does not go with"),
        ],
    )
    def test_shapes_that_do_not_fit(self, image, coordinates, message):
        with pytest.raises(ValueError, match=message):
            geometry.warp(np.zeros(image, np.float32), np.zeros(coordinates, np.float32))

    def test_orders_that_are_not_there(self):
        with pytest.raises(ValueError, match="order=2 must be 1"):
            geometry.warp(make_image((4, 4)), make_coordinates((4, 4), 1), order=2)


class TestWindows:
    @settings(deadline=None)
    @given(
        size=st.tuples(sides, sides),
        window=st.tuples(sides, sides),
        top_left=st.tuples(st.integers(-60, 60), st.integers(-60, 60)),
    )
    def test_a_window_is_cut_from_the_mirrored_image(self, size, window, top_left):
        image = make_image(size)
        room = 120
        mirrored = np.pad(image, room, mode="reflect")
        rows, columns = (
            slice(room + t, room + t + w) for t, w in zip(top_left, window, strict=True)
        )
        cut = geometry.cut_window(image, top_left, window)
        np.testing.assert_array_equal(cut, mirrored[rows, columns])

    def test_windows_of_images_of_any_size_have_one_shape(self):
        def cut(image: tf.Tensor) -> tf.Tensor:
            return geometry.cut_window(image, (-2, 3), (6, 7))

        images = [make_labels((h, w, 2)).astype(np.uint16) for h, w in ((9, 12), (1, 1), (4, 30))]
        data = tf.data.Dataset.from_generator(
            lambda: images, output_signature=tf.TensorSpec([None, None, 2], tf.uint16)
        ).map(cut)
        assert data.element_spec.shape == (6, 7, 2)
        assert data.element_spec.dtype == tf.uint16
        for image, window in zip(images, data, strict=True):
            np.testing.assert_array_equal(window, geometry.cut_window(image, (-2, 3), (6, 7)))


@settings(deadline=None)
@given(size=st.integers(1, 40))
def test_spline_coefficients_are_those_of_scipy(size):
    image = make_image((size, 7))
    expected = scipy.ndimage.spline_filter(image.astype(float), 3, mode="mirror")
    made = geometry.spline_coefficients(image[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(made, expected, atol=3e-6)


def test_an_image_may_be_filtered_before():
    image = make_image((20, 17))[None, ..., None]
    coordinates = geometry.identity_coordinates((20, 17)) * 0.9 + 0.3
    once = geometry.warp(image, coordinates, order=3)
    filtered = geometry.spline_coefficients(image)
    np.testing.assert_array_equal(
        geometry.warp(filtered, coordinates, order=3, prefilter=False), once
    )


def test_cubic_splines_keep_texture_that_linear_interpolation_blurs():
    noise = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    halfway = geometry.identity_coordinates((128, 128)) + 0.5
    kept = {order: np.var(geometry.warp(noise, halfway, order=order)) for order in (1, 3)}
    # The mean of four neighbors has a quarter of the variance.
    assert kept[1] < 0.3
    assert kept[3] > 0.5
