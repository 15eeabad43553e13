"""PNG and JPEG files decoded, predicted and padded inside a SavedModel's graph.

    encoded  string (B,)  files, each of its own size
    -> maps  float32 (B, H, W, ...)  of the largest's size; smaller ones padded with 0
       sizes int32 (B, 2)

Grey values are those that `predict` reads from the same files.
"""

from collections.abc import Callable

import tensorflow as tf

from unet_keras.sources.channels import LEAKAGE, LUMINANCE

# What TensorFlow decodes: grey, RGB, RGBA.
ENCODED_CHANNELS = (1, 3, 4)
_PNG, _PNG_HEAD = b"\x89PNG\r\n\x1a\n", 25  # up to the bits a channel

Tensors = dict[str, tf.Tensor]
Prediction = Callable[[tf.Tensor], Tensors]


def encoded_prediction(
    predict: Prediction, names: list[str], channels: int, dtype: tf.DType
) -> Prediction:
    """Return the function that decodes images, predicts each by itself and pads the results.

    Args:
        predict: From images (1, H, W, C) to maps (1, H, W, ...) by name.
        names: Of these maps.
        channels: C, one of `ENCODED_CHANNELS`.
        dtype: Of the images: uint8 or uint16.
    """
    stored_channels = 3 if channels == 1 else channels

    def decode(file: tf.Tensor) -> tf.Tensor:
        def as_stored(kind: tf.DType) -> tf.Tensor:
            image = tf.io.decode_image(file, stored_channels, kind, expand_animations=False)
            return tf.cast(tf.ensure_shape(image, (None, None, stored_channels)), dtype)

        # Left to itself, TensorFlow stretches 8 bits over 16 and takes 16 for their upper half.
        wide = _has_wide_pixels(file)
        if dtype == tf.uint16:
            return tf.cond(wide, lambda: as_stored(tf.uint16), lambda: as_stored(tf.uint8))
        tf.debugging.Assert(
            tf.logical_not(wide),
            [f"encoded holds a PNG of 16 bits, but the network was trained on {dtype.name} images"],
        )
        return as_stored(dtype)

    def predict_one(file: tf.Tensor, largest: tf.Tensor) -> Tensors:
        image = decode(file)
        if channels == 1:
            image = _grey_of_colors(image)
        missing = largest - tf.shape(image)[:2]
        pads = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
        return {name: tf.pad(map_, pads)[0] for name, map_ in predict(image[None]).items()}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "encoded")])
    def predict_encoded(encoded: tf.Tensor) -> Tensors:
        # Decoded twice, a hundredth of the prediction's time, instead of all being kept at once.
        tf.debugging.assert_positive(tf.size(encoded), "encoded is empty: give one image or more")
        sizes = tf.map_fn(
            lambda file: tf.shape(decode(file))[:2], encoded, fn_output_signature=tf.int32
        )
        largest = tf.reduce_max(sizes, axis=0)
        maps = tf.map_fn(
            lambda file: predict_one(file, largest),
            encoded,
            fn_output_signature=dict.fromkeys(names, tf.float32),
            parallel_iterations=1,
        )
        return {**maps, "sizes": sizes}

    return predict_encoded


def _has_wide_pixels(file: tf.Tensor) -> tf.Tensor:
    """Whether a file is a PNG of 16 bits a channel; no other format that is decoded has as many."""
    head = tf.strings.substr(tf.strings.join([file, "\0" * _PNG_HEAD]), 0, _PNG_HEAD)
    is_png = tf.strings.substr(head, 0, len(_PNG)) == _PNG
    return is_png & (tf.strings.substr(head, _PNG_HEAD - 1, 1) == "\x10")


def _grey_of_colors(image: tf.Tensor) -> tf.Tensor:
    """`sources.channels.fit_channels` as ops: (H, W, 3) to (H, W, 1) of the same integers."""
    values = tf.cast(image, tf.int32)
    highest = tf.reduce_max(values, axis=(0, 1))
    _, middle, high = tf.unstack(tf.cast(tf.sort(highest), tf.float64))
    is_grey = tf.reduce_all(values == values[..., :1])
    only = tf.where(is_grey, 0, tf.argmax(highest, output_type=tf.int32))

    def luminance() -> tf.Tensor:
        grey = tf.tensordot(tf.cast(image, tf.float32), LUMINANCE, 1)
        return tf.cast(tf.round(grey), image.dtype)

    has_one = is_grey | (middle <= LEAKAGE * high)
    return tf.cond(has_one, lambda: image[..., only], luminance)[..., tf.newaxis]
