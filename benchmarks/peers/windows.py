"""What the U-Net replaced: a small network that tells one pixel's class from the window around it.

After Ciresan et al. 2012, "Deep neural networks segment neuronal membranes in electron microscopy
images": convolutions and poolings, a dense layer, softmax; each pixel of an image by itself. Larger
windows see more context and take one pooling more to become small. Fewer maps than theirs (16 to 48
where they had 48), because an image has 366,080 windows.

    window   uint8 (S, S) or (B, S, S)  grey values around a pixel, mirrored at the image's edge
    classes  0 background, 1 inside of a cell, 2 its two outermost pixels, as the U-Net learns them
"""

import argparse
import os
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from exchange import Budget, finish, parse, read_training
from networks import RULES, WithinBudget
from numpy.lib.stride_tricks import sliding_window_view
from skimage.transform import resize

from unet_keras.inference.instances import foreground_of
from unet_keras.inference.outlines import as_cells
from unet_keras.targets.labels import outline_pixels
from unet_keras.training.computation import resolve_precision

# Maps of each level by the side of the window; a pooling between two levels and behind the last.
LEVELS = {33: (16, 32), 65: (16, 32, 48)}
DENSE = 128
BATCH = 256
RATE = 2e-3
ROWS_AT_ONCE = 4


def build(side: int, mean: float, scale: float) -> keras.Model:
    """Return the network, uint8 windows (B, S, S) -> probabilities (B, 3)."""
    windows = keras.Input((side, side), dtype="uint8")
    x = keras.layers.Rescaling(1 / scale, offset=-mean / scale, dtype="float32")(windows)
    x = keras.layers.Reshape((side, side, 1))(x)
    for maps in LEVELS[side]:
        x = keras.layers.Conv2D(maps, 3, use_bias=False, kernel_initializer="he_normal")(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.MaxPooling2D(2)(keras.layers.ReLU()(x))
    x = keras.layers.Dense(DENSE, "relu", kernel_initializer="he_normal")(keras.layers.Flatten()(x))
    return keras.Model(windows, keras.layers.Dense(3, "softmax", dtype="float32")(x))


def windows_of(image: np.ndarray, side: int) -> np.ndarray:
    """A view of the windows around all pixels, uint8 (H, W, S, S)."""
    return sliding_window_view(np.pad(image, side // 2, "reflect"), (side, side))


def batches(
    images: list[np.ndarray], truths: list[np.ndarray], side: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield windows around random pixels of random images, turned and mirrored, and classes."""
    random = np.random.default_rng(seed)
    views = [windows_of(image, side) for image in images]
    classes = [np.where(t > 0, 1 + outline_pixels(t, 2), 0).astype(np.uint8) for t in truths]
    while True:
        windows = np.empty((BATCH, side, side), np.uint8)
        found = np.empty(BATCH, np.uint8)
        for place, number in enumerate(random.integers(len(images), size=BATCH)):
            row, column = (random.integers(length) for length in images[number].shape)
            window = np.rot90(views[number][row, column], random.integers(4))
            windows[place] = window.T if random.integers(2) else window
            found[place] = classes[number][row, column]
        yield windows, found


def main() -> None:
    """Train, then segment the test images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="pixels a step, to try things out")
    arguments = parse(("33", "65"), parser)
    keras.utils.set_random_seed(arguments.seed)
    keras.config.set_dtype_policy(resolve_precision("auto"))
    images, truths = read_training(arguments.folder)
    side, every = int(arguments.variant), arguments.every
    model = build(side, float(np.mean(images)), float(np.std(images)))
    optimizer = keras.optimizers.Adam(RATE, use_ema=True, ema_momentum=0.995)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    budget = Budget(arguments.cpu_seconds)
    signature = (tf.TensorSpec((BATCH, side, side), "uint8"), tf.TensorSpec((BATCH,), "uint8"))
    data = tf.data.Dataset.from_generator(
        lambda: batches(images, truths, side, arguments.seed), output_signature=signature
    )
    model.fit(
        data.prefetch(2), steps_per_epoch=10**9, epochs=1, verbose=0, shuffle=False,
        callbacks=[WithinBudget(budget, RATE)],
    )  # fmt: skip
    account = budget.account()
    predict = tf.function(lambda windows: model(windows, training=False))

    def segment(image: np.ndarray) -> np.ndarray:
        views = windows_of(image, side)[::every, ::every]
        rows = [
            predict(views[row : row + ROWS_AT_ONCE].reshape(-1, side, side)).numpy()
            for row in range(0, len(views), ROWS_AT_ONCE)
        ]
        predicted = np.concatenate(rows).reshape(*views.shape[:2], 3)
        if every > 1:
            predicted = resize(predicted, (*image.shape, 3), order=1)
        return RULES.label(foreground_of(as_cells(predicted, "cells_and_borders")))

    finish(arguments.folder, arguments.output, segment, account)


if __name__ == "__main__":
    main()
