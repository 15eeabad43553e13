import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_keras.model.layers import (
    CheckTile,
    CropToImage,
    FusedBatchNormalization,
    MirrorToMultiple,
)

SIZES = [(1, 1), (1, 8), (2, 3), (3, 17), (8, 8), (9, 16), (15, 7)]


def mirrored(images: np.ndarray, multiple: int) -> np.ndarray:
    _, height, width, _ = images.shape
    pads = [(0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)]
    return np.pad(images, pads, mode="reflect")


@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
@pytest.mark.parametrize("size", SIZES)
def test_mirror_equals_numpy_at_any_size(size, compiled) -> None:
    images = np.random.default_rng(0).random((2, *size, 3), "float32")
    layer = MirrorToMultiple(8)
    call = layer
    if compiled is not None:
        # Sizes unknown while tracing: the case of a served model, and of fit after two sizes.
        signature = [tf.TensorSpec((None, None, None, 3))]
        call = tf.function(layer, input_signature=signature, jit_compile=compiled)
    np.testing.assert_array_equal(call(tf.constant(images)), mirrored(images, 8))
    assert layer.compute_output_shape(images.shape) == mirrored(images, 8).shape


def test_mirror_adds_nothing_where_the_size_fits() -> None:
    function = tf.function(MirrorToMultiple(8)).get_concrete_function(tf.TensorSpec((1, 16, 8, 1)))
    kinds = {operation.type for operation in function.graph.get_operations()}
    assert kinds <= {"Placeholder", "Identity", "Const"}


def test_crop_undoes_the_mirror_and_adds_nothing_where_it_does_nothing() -> None:
    images = np.random.default_rng(0).random((2, 9, 30, 3), "float32")
    np.testing.assert_array_equal(CropToImage()((mirrored(images, 8), images)), images)
    maps, image = tf.zeros((1, 8, 8, 2)), tf.zeros((1, 8, 8, 1))
    assert CropToImage()((maps, image)) is maps
    assert CropToImage().compute_output_shape(((1, 8, 8, 2), (1, 7, None, 3))) == (1, 7, None, 2)


def test_check_tile_refuses_while_building_and_while_running() -> None:
    layer = CheckTile(2)
    assert layer(tf.zeros((1, 44, 60, 1))).shape == (1, 44, 60, 1)
    with pytest.raises(ValueError, match=r"tile of 46 pixels .* 44 \+ 4·k .* Nearest: 44 and 48"):
        layer(tf.zeros((1, 44, 46, 1)))
    later = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 1))])
    assert later(tf.zeros((1, 48, 44, 1))).shape == (1, 48, 44, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"44 \+ 4·k.*46"):
        later(tf.zeros((1, 44, 46, 1)))


def normalizers(**options) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Return Keras's layer and the fused one with the same, uneven state."""
    pair = (
        keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9, **options),
        FusedBatchNormalization(epsilon=1e-5, momentum=0.9, **options),
    )
    state = np.random.default_rng(1).uniform(0.5, 2.0, (4, 5))
    for layer in pair:
        layer.build((None, None, None, 5))
        layer.set_weights(list(state))
    return pair


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("training", [False, True])
def test_fused_batch_normalization_equals_that_of_keras(training, compiled) -> None:
    images = tf.constant(np.random.default_rng(0).normal(3, 2, (2, 6, 7, 5)).astype("float32"))
    probe = tf.constant(np.random.default_rng(2).random((2, 6, 7, 5), "float32"))
    outcomes = []
    for layer in normalizers():

        @tf.function(jit_compile=compiled)
        def step(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images, training=training)
                total = tf.reduce_sum(outputs * probe)
            return outputs, *tape.gradient(total, [images, layer.gamma.value, layer.beta.value])

        outcomes.append([*step(), layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    if training:
        # PyTorch and the fused kernel keep the unbiased variance, Keras the biased one.
        count = 2 * 6 * 7
        batch = np.var(images, axis=(0, 1, 2)) * 0.1
        outcomes[0][-1] += batch * (count / (count - 1) - 1)
    for expected, found in zip(*outcomes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_fused_batch_normalization_in_half_precision_keeps_float32_statistics(dtype) -> None:
    # The squares of these values do not fit into float16.
    images = np.random.default_rng(0).normal(900, 40, (2, 32, 32, 5)).astype("float32")
    outputs = []
    for layer in normalizers(dtype=f"mixed_{dtype}"):
        outputs.append(tf.cast(layer(tf.cast(images, dtype), training=True), "float32"))
        assert layer.moving_variance.dtype == "float32"
    np.testing.assert_allclose(outputs[1], outputs[0], atol=0.05)


def test_a_frozen_batch_normalization_keeps_its_statistics() -> None:
    layer = normalizers()[1]
    layer.trainable = False
    before = layer.moving_mean.numpy()
    layer(np.full((1, 2, 2, 5), 9.0, "float32"), training=True)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), before)
