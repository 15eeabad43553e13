import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from unet_keras.errors import InputError
from unet_keras.pipeline import geometry, grey
from unet_keras.pipeline.augment import (
    NO_AUGMENTATION,
    Augmentation,
    augment_batch,
    coordinates_from,
    cut_windows,
    device_name,
    sample_parameters,
    window_size,
)
from unet_keras.pipeline.sampling import sample_displacements, sample_noise

CROP = (32, 40)
MOVED = Augmentation(deviation_pixels=4.0, zoom=(0.8, 1.3), brightness=0.0, contrast=0.0)
GREY = Augmentation(
    deviation_pixels=4.0, noise=0.2, blur_pixels=1.5, gamma=(0.7, 1.5), contrast=0.3
)
SMOOTH = Augmentation(kind="smooth", alpha=60.0, sigma=4.0, noise=0.2)
CUBIC = dataclasses.replace(MOVED, image_order=3)
FLIPPED = dataclasses.replace(NO_AUGMENTATION, flip=True, jit_compile=True)


def make_arrays(size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (*size, 1)).astype(np.uint8)
    maps = rng.random((*size, 2), np.float32)
    return image, maps, rng.integers(0, 300, (*size, 2)).astype(np.int32)


def transform_one(augmentation, number, arrays, crop=CROP, window=None):
    window = window or window_size(augmentation, crop)
    size = arrays[0].shape[:2]
    parameters = sample_parameters(augmentation, 7, number, size, crop, window=window)
    cut = cut_windows(parameters, window, *arrays)
    results = augment_batch(
        *cut, parameters, augmentation=augmentation, crop=crop, grey_mean=120.0, grey_scale=40.0
    )
    return results, parameters


def transform_all(augmentation, *, batch_size=1, threads=1, count=6, crop=CROP):
    """What `count` examples of different sizes become in a pipeline; one array a kind."""
    examples = [make_arrays(size, k) for k, size in enumerate([(90, 120), (50, 300), (20, 25)])]
    window = window_size(augmentation, crop)

    def cut(number, arrays):
        size = tf.shape(arrays[0])[:2]
        parameters = sample_parameters(augmentation, 7, number, size, crop, window=window)
        return *cut_windows(parameters, window, *arrays), parameters

    def transform(*batch):
        return augment_batch(
            *batch, augmentation=augmentation, crop=crop, grey_mean=120.0, grey_scale=40.0
        )

    kinds = ((1, tf.uint8), (2, tf.float32), (2, tf.int32))
    signature = tuple(tf.TensorSpec([None, None, c], dtype) for c, dtype in kinds)
    data = tf.data.Dataset.from_generator(lambda: examples, output_signature=signature)
    data = data.repeat().take(count).enumerate().map(cut, num_parallel_calls=threads)
    data = data.batch(batch_size).map(transform, num_parallel_calls=threads)
    return [np.concatenate(parts) for parts in zip(*data.as_numpy_iterator(), strict=True)]


class TestOneMapForAll:
    @pytest.mark.parametrize(
        "augmentation", [MOVED, SMOOTH, CUBIC], ids=["grid", "smooth", "cubic"]
    )
    def test_a_drawn_grid_moves_alike_on_image_maps_and_labels(self, augmentation):
        augmentation = dataclasses.replace(augmentation, noise=0.0, brightness=0.0, contrast=0.0)
        rows, columns = np.mgrid[:90, :120]
        drawn = (((rows // 8) % 2) ^ ((columns // 8) % 2))[..., None]
        arrays = drawn.astype(np.uint8), drawn.astype(np.float32), drawn.astype(np.int32)
        (image, maps, labels), _ = transform_one(augmentation, 3, arrays)
        if augmentation.image_order == 1:
            np.testing.assert_array_equal(image, maps)
        # Where interpolation leaves no doubt, the nearest pixel agrees.
        clear = np.abs(maps.numpy() - 0.5) > 0.35
        assert clear.mean() > 0.5
        np.testing.assert_array_equal(labels.numpy()[clear], np.round(maps.numpy()[clear]))
        assert (np.abs(image.numpy() - maps.numpy())[clear] < 0.4).all()

    def test_labels_stay_in_their_set_and_maps_in_their_range(self):
        for size in ((90, 120), (20, 25), (1, 1)):
            arrays = make_arrays(size)
            (image, maps, labels), _ = transform_one(MOVED, 5, arrays)
            assert np.isin(labels, arrays[2]).all()
            assert arrays[1].min() - 1e-6 <= maps.numpy().min()
            assert maps.numpy().max() <= arrays[1].max() + 1e-6
            assert np.isfinite(image).all()


class TestIdentity:
    def test_without_strength_crops_are_slices_bit_by_bit(self):
        arrays = make_arrays((90, 120))
        results, parameters = transform_one(NO_AUGMENTATION, 1, arrays)
        top, left = parameters["crop_top_left"].numpy()
        for array, result in zip(arrays, results, strict=True):
            np.testing.assert_array_equal(result, array[top : top + 32, left : left + 40])
        assert results[0].dtype == tf.float32

    def test_flips_alone_are_exact(self):
        arrays, seen = make_arrays((90, 120)), set()
        for number in range(12):
            results, parameters = transform_one(FLIPPED, number, arrays)
            top, left = parameters["crop_top_left"].numpy()
            axes = tuple(np.flatnonzero(np.diag(parameters["matrix"]) < 0))
            for array, result in zip(arrays, results, strict=True):
                part = array[top : top + 32, left : left + 40]
                np.testing.assert_array_equal(result, np.flip(part, axes))
            seen.add(axes)
        assert seen == {(), (0,), (1,), (0, 1)}

    def test_images_alone(self):
        image = make_arrays((90, 120))[0]
        (result, maps, labels), _ = transform_one(MOVED, 1, (image, None, None))
        assert result.shape == (*CROP, 1)
        assert maps is None
        assert labels is None


@pytest.mark.slow
class TestRepeatability:
    @pytest.mark.parametrize(
        ("augmentation", "runs"),
        [
            pytest.param(MOVED, ((2, 2), (6, tf.data.AUTOTUNE)), id="grid"),
            pytest.param(GREY, ((1, 2), (3, 2)), id="grey", marks=pytest.mark.slow),
            pytest.param(SMOOTH, ((3, 2),), id="smooth", marks=pytest.mark.slow),
            pytest.param(CUBIC, ((2, 2), (6, 2)), id="cubic", marks=pytest.mark.slow),
        ],
    )
    def test_threads_and_batches_change_nothing(self, augmentation, runs):
        expected = transform_all(augmentation)
        assert all(np.isfinite(one).all() for one in expected)
        for batch_size, threads in runs:
            again = transform_all(augmentation, batch_size=batch_size, threads=threads)
            for one, other in zip(expected, again, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_every_number_is_different(self):
        images = transform_all(MOVED, count=9)[0]
        # Numbers 0, 3 and 6 are the same image in three epochs.
        assert not np.array_equal(images[0], images[3])
        assert not np.array_equal(images[3], images[6])

    def test_single_examples_equal_batches(self):
        sizes = (90, 120), (50, 300), (20, 25)
        batch = transform_all(GREY, batch_size=3, count=3)
        for number, size in enumerate(sizes):
            results, _ = transform_one(GREY, number, make_arrays(size, number))
            for result, expected in zip(results, batch, strict=True):
                np.testing.assert_array_equal(result, expected[number])

    @pytest.mark.parametrize("compiled", [True, False])
    @pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batched"])
    def test_the_resampling_is_compiled_if_so_wished(self, compiled, batch):
        augmentation = dataclasses.replace(MOVED, jit_compile=compiled)
        parameters = sample_parameters(augmentation, 7, 1, (90, 120), CROP)

        def transform(image, labels):
            repeated = {
                name: tf.broadcast_to(value, (*batch, *value.shape))
                for name, value in parameters.items()
            }
            return augment_batch(
                image, None, labels, repeated, augmentation=augmentation, crop=CROP
            )

        window = (*batch, *window_size(augmentation, CROP), 1)
        graph = tf.function(transform).get_concrete_function(
            tf.TensorSpec(window, tf.uint8), tf.TensorSpec(window, tf.int32)
        )
        functions = graph.graph.as_graph_def().library.function
        resampling = [f for f in functions if any(n.op == "GatherV2" for n in f.node_def)]
        asked = [f.attr["_XlaMustCompile"].b for f in resampling]
        assert asked == [True] * len(asked) if compiled else not any(asked)
        assert bool(asked) == compiled  # not compiled, it is no function of its own
        assert graph.structured_outputs[0].shape == (*batch, *CROP, 1)

    @pytest.mark.slow
    @pytest.mark.parametrize("augmentation", [GREY, CUBIC], ids=["grey", "cubic"])
    def test_the_compiler_can_be_switched_off(self, augmentation):
        plain = dataclasses.replace(augmentation, jit_compile=False)
        compiled, interpreted = transform_all(augmentation), transform_all(plain)
        np.testing.assert_allclose(compiled[0], interpreted[0], atol=0.05)
        np.testing.assert_allclose(compiled[1], interpreted[1], atol=1e-4)
        assert (compiled[2] != interpreted[2]).mean() < 1e-3


class TestGreyValues:
    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ({"contrast": 0.5}, lambda x, p: grey.change_contrast(x, p["contrast"], 120.0)),
            ({"brightness": 0.5}, lambda x, p: grey.change_brightness(x, p["brightness"], 40.0)),
            ({"gamma": (0.4, 2.0)}, lambda x, p: grey.change_gamma(x, p["gamma"])),
            ({"blur_pixels": 2.0}, lambda x, p: grey.blur(x, p["blur"])),
            (
                {"noise": 0.5},
                lambda x, p: grey.add_noise(x, p["noise"], p["noise_share"], 40.0),
            ),
        ],
        ids=["contrast", "brightness", "gamma", "blur", "noise"],
    )
    def test_each_setting_reaches_the_image_and_only_the_image(self, setting, expected):
        arrays = make_arrays((90, 120))
        plain, _ = transform_one(NO_AUGMENTATION, 2, arrays)
        changed, parameters = transform_one(
            dataclasses.replace(NO_AUGMENTATION, **setting), 2, arrays
        )
        batched = {name: value[tf.newaxis] for name, value in parameters.items()}
        np.testing.assert_allclose(
            changed[0], expected(plain[0][tf.newaxis], batched)[0], atol=1e-3
        )
        assert np.abs(changed[0] - plain[0]).mean() > 0.1
        np.testing.assert_array_equal(changed[1], plain[1])
        np.testing.assert_array_equal(changed[2], plain[2])


class TestAgainstReferences:
    @pytest.mark.parametrize("size", [(64, 97), (33, 20)])
    def test_whole_images_equal_elasticdeform(self, size):
        elasticdeform = pytest.importorskip("elasticdeform", reason="needs a C compiler to build")
        augmentation = dataclasses.replace(
            NO_AUGMENTATION, deviation_pixels=10.0, rotation_degrees=180.0, jit_compile=True
        )
        arrays = make_arrays(size)
        window = window_size(augmentation, size, size)
        assert window == size
        (image, maps, labels), parameters = transform_one(
            augmentation, 4, arrays, crop=size, window=window
        )
        stream = tf.random.experimental.stateless_fold_in(tf.constant([7, 4], tf.int64), 1)
        grid = np.moveaxis(sample_displacements(stream, (3, 3), 10.0).numpy(), -1, 0)
        matrix = parameters["matrix"].numpy()
        expected = elasticdeform.deform_grid(
            [arrays[0][..., 0].astype(float), arrays[1][..., 0].astype(float), arrays[2][..., 0]],
            grid.astype(float),
            order=[1, 1, 0],
            mode="mirror",
            rotate=np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])),
        )
        np.testing.assert_allclose(image[..., 0], expected[0], atol=255e-4)
        np.testing.assert_allclose(maps[..., 0], expected[1], atol=1e-4)
        assert (labels[..., 0].numpy() != expected[2]).mean() <= 1e-3

    @pytest.mark.parametrize(("sigma", "compiled"), [(4.0, True), (4.0, False), (7.0, True)])
    def test_smooth_fields_equal_blur_and_remap_of_opencv(self, sigma, compiled):
        size, alpha = (96, 128), 30.0 * sigma
        augmentation = dataclasses.replace(
            NO_AUGMENTATION, kind="smooth", alpha=alpha, sigma=sigma, jit_compile=compiled
        )
        rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
        image = np.sin(rows / 6) + np.cos(columns / 5)
        (warped, _, _), _ = transform_one(
            augmentation, 2, (image[..., None], None, None), crop=size, window=size
        )
        stream = tf.random.experimental.stateless_fold_in(tf.constant([7, 2], tf.int64), 1)
        noise = (sample_noise(stream, size).numpy() + 0.5) / 128
        down, across = (
            alpha * cv2.GaussianBlur(one, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
            for one in noise
        )
        assert 4 < np.abs(down).max() < 40
        expected = cv2.remap(
            image,
            columns + across.astype(np.float32),
            rows + down.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        steepest = 1 / 6 + 1 / 5
        np.testing.assert_allclose(warped[..., 0], expected, atol=steepest / 32)

    @pytest.mark.parametrize("size", [(400, 300), (120, 60), (33, 41)])
    def test_windows_show_what_the_whole_mirrored_image_shows(self, size):
        arrays = make_arrays(size)
        for number in range(6):
            (image, maps, _), parameters = transform_one(MOVED, number, arrays)
            coordinates = coordinates_from(parameters, augmentation=MOVED, crop=CROP)
            coordinates += tf.cast(parameters["window_top_left"], tf.float32)
            whole = geometry.warp(arrays[0], tf.cast(coordinates, tf.float64))
            np.testing.assert_allclose(image, whole, atol=0.02)
            np.testing.assert_allclose(maps, geometry.warp(arrays[1], coordinates), atol=1e-4)


class TestDevice:
    def test_names(self):
        assert device_name("cpu") == "/CPU:0"
        assert device_name("auto") in ("/CPU:0", "/GPU:0")
        assert device_name("CPU:0") == device_name("/CPU:0") == "/CPU:0"
        assert device_name("/device:CPU:0") == "/device:CPU:0"

    def test_a_device_that_is_not_there(self):
        with pytest.raises(
            InputError, match=r"augment.device=GPU:7 is not there; available: .*cpu"
        ):
            device_name("GPU:7")
