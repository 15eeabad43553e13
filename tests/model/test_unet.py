import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_keras.model.unet import build_unet


def small(**options) -> keras.Model:
    return build_unet(**{"base_filters": 2, "depth": 2, **options})


def count_layers(model: keras.Model, *kinds: type) -> int:
    return sum(isinstance(layer, kinds) for layer in model.layers)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def test_the_network_of_2015() -> None:
    model = build_unet(num_classes=2, padding="valid", normalization="none", dropout=0.5)
    assert model.count_params() == 31_030_658
    assert count_layers(model, keras.layers.Conv2D, keras.layers.Conv2DTranspose) == 23
    assert count_layers(model, keras.layers.Cropping2D) == 4
    assert count_layers(model, keras.layers.Dropout) == 2
    assert model.compute_output_shape((1, 572, 572, 1)) == (1, 388, 388, 2)
    channels = [model.get_layer(f"down_{level}_conv_2").filters for level in (1, 2, 3, 4)]
    assert [*channels, model.get_layer("bottleneck_conv_2").filters] == [64, 128, 256, 512, 1024]


def test_the_network_of_2023() -> None:
    model = build_unet()
    # Counted in PyTorch: DoubleConv without bias, BatchNorm2d, ConvTranspose2d, 1x1 output.
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 31_036_481
    assert count_layers(model, keras.layers.BatchNormalization) == 18
    assert count_layers(model, keras.layers.Conv2DTranspose) == 4
    assert model.compute_output_shape((2, 333, 434, 1)) == (2, 333, 434, 1)


def test_dropout_is_at_the_end_of_the_contracting_path() -> None:
    model = build_unet(base_filters=2, padding="valid", normalization="none", dropout=0.5)
    behind = {
        layer.name: layer.input._keras_history.operation.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    }
    assert behind == {
        "down_4_dropout": "down_4_relu_2", "bottleneck_dropout": "bottleneck_relu_2"
    }  # fmt: skip


def test_statistics_move_as_in_pytorch() -> None:
    """By a tenth of the batch's, the variance the unbiased one."""
    model = small(depth=1)
    layer, images = model.get_layer("down_1_norm_1"), random_images(2, 8, 8, 1) / 100
    before = keras.Model(model.input, layer.input)(images).numpy().reshape(-1, 2)
    model(images, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * before.mean(0), rtol=1e-4)
    expected = 0.9 + 0.1 * before.var(0, ddof=1)
    np.testing.assert_allclose(layer.moving_variance, expected, rtol=1e-4)


def test_every_kernel_starts_with_the_variance_of_he() -> None:
    """Of up-convolutions, which no ReLU follows, half of it; each of their inputs meets one tap."""
    for layer in build_unet(base_filters=16, depth=2, stride=1).layers:
        if isinstance(layer, keras.layers.Conv2D):
            up = isinstance(layer, keras.layers.Conv2DTranspose)
            inputs = layer.input.shape[-1] * (1 if up else np.prod(layer.kernel_size))
            deviation = ((1 if up else 2) / inputs) ** 0.5
            tolerance = 4 / (2 * layer.kernel.numpy().size) ** 0.5
            assert layer.kernel.numpy().std() == pytest.approx(deviation, rel=tolerance), layer.name


def test_he_initialization() -> None:
    kernel = build_unet(base_filters=16, depth=2).get_layer("bottleneck_conv_2").kernel.numpy()
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert abs(kernel.mean()) < 1e-3
    # Not cut off at two standard deviations.
    assert np.abs(kernel).max() > 3 * kernel.std()


def test_every_layer_has_a_telling_name() -> None:
    model = small(padding="valid", normalization="batch", dropout=0.1)
    stems = ("down_1_", "down_2_", "bottleneck_", "up_2_", "up_1_")
    single = {"image", "normalize", "check_tile", "logits"}
    names = [layer.name for layer in model.layers]
    assert all(name in single or name.startswith(stems) for name in names)
    assert {"down_1_conv_1", "bottleneck_norm_2", "up_1_transpose", "up_2_join"} <= set(names)


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_same_padding_takes_any_size(normalization) -> None:
    model = small(normalization=normalization, num_classes=3, regression_maps=1, input_channels=2)
    for size in ((1, 1), (2, 30), (33, 43), (16, 24)):
        images = random_images(1, *size, 2)
        output = model(images)
        assert output.shape == (1, *size, 4)
        assert np.isfinite(output).all()
        # From its second size on, predict knows none while tracing.
        np.testing.assert_allclose(model.predict(images, verbose=0), output, rtol=1e-4, atol=1e-4)


def test_an_odd_size_is_the_mirrored_image_cut_back() -> None:
    model = small(depth=3)
    image = random_images(1, 21, 30, 1)
    mirrored = np.pad(image, [(0, 0), (0, 3), (0, 2), (0, 0)], mode="reflect")
    np.testing.assert_allclose(model(image), model(mirrored)[:, :21, :30], atol=1e-5)


@pytest.mark.parametrize(
    ("padding", "sizes"), [("same", [(7, 9), (8, 12), (1, 5)]), ("valid", [(18, 20), (20, 18)])]
)
def test_sizes_may_change_from_batch_to_batch_under_xla(padding, sizes) -> None:
    model = small(depth=1, padding=padding)
    model.compile(jit_compile=True)
    for size in sizes:
        image = random_images(1, *size, 1)
        found, expected = model.predict(image, verbose=0), model(image)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_wrong_tile_is_told_the_nearest_right_ones() -> None:
    model = small(padding="valid")
    with pytest.raises(ValueError, match=r"tile of 46 pixels .* Nearest: 44 and 48"):
        model(np.zeros((1, 44, 46, 1), "float32"))
    # Once it has seen two sizes, a graph knows none beforehand.
    call = tf.function(model, input_signature=[tf.TensorSpec((1, None, None, 1))])
    for side, nearest in ((46, r"44.*48"), (20, r"44.*48")):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            call(np.zeros((1, 44, side, 1), "float32"))
        assert re.search(rf"{side}\D.*Nearest.*{nearest}", " ".join(str(caught.value).split()))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_raw_grey_values_of_any_type_are_normalized_first(dtype) -> None:
    plain = small()
    model = small(mean=100.0, scale=50.0)
    grey = random_images(1, 8, 8, 1).astype(dtype)
    np.testing.assert_allclose(model(grey), plain((grey.astype("float32") - 100) / 50), atol=1e-5)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"], indirect=True)
def test_normalization_is_exact_in_half_precision(precision) -> None:
    # In float16, the two grey values are one.
    model = small(mean=40_000.0, scale=2.0)
    assert model.output.dtype == "float32"
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    images = np.full((1, 2, 2, 1), 40_003.0, "float32")
    np.testing.assert_array_equal(normalized(images), np.full((1, 2, 2, 1), 1.5))
    assert model.get_layer("down_1_conv_1").compute_dtype == precision.removeprefix("mixed_")


def test_normalization_per_channel() -> None:
    model = small(input_channels=3, mean=[1.0, 2.0, 3.0], scale=(1.0, 2.0, 4.0))
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    values = normalized(np.full((1, 1, 1, 3), 5.0, "float32"))
    np.testing.assert_allclose(np.ravel(values), [4.0, 1.5, 0.5], rtol=1e-6)


def test_the_seed_alone_decides_the_weights() -> None:
    first, again, other = small(seed=3), small(seed=3), small(seed=4)
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.get_layer("logits").kernel != other.get_layer("logits").kernel).numpy().any()
    kernels = [np.ravel(w)[:4] for w in first.trainable_weights if len(w.shape) == 4]
    assert len({tuple(kernel) for kernel in kernels}) == len(kernels)


def test_golden_weights_of_a_seed() -> None:
    kernel = build_unet(base_filters=2, depth=1, seed=1).get_layer("down_1_conv_1").kernel
    np.testing.assert_allclose(np.ravel(kernel)[:3], [-0.711038, -0.208423, -0.171094], rtol=1e-5)


def test_dropout_repeats_with_the_seed_and_rests_outside_training() -> None:
    images = random_images(1, 16, 16, 1)
    first, again = small(dropout=0.5, seed=3), small(dropout=0.5, seed=3)
    np.testing.assert_array_equal(first(images, training=True), again(images, training=True))
    assert (first(images, training=True) != first(images, training=True)).numpy().any()
    np.testing.assert_array_equal(first(images), first(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"base_filters": 0}, "base_filters=0 must be at least 1"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"input_channels": 0}, "input_channels=0 must be at least 1"),
        ({"regression_maps": -1}, "regression_maps=-1 must be at least 0"),
        ({"dropout": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
        ({"scale": 0.0}, "scale=0.0 must be above 0"),
        ({"mean": [1.0, 2.0]}, "has 2 numbers, but input_channels=1"),
        ({"padding": "full"}, "padding='full' must be one of same, valid"),
        ({"normalization": "layer"}, "normalization='layer' must be one of batch, group, none"),
    ],
)
def test_arguments_out_of_range_are_explained(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
