"""Augmentation of image, border map and labels against the libraries that people use for it.

    python benchmarks/augment.py

All sides get the same arrays of 520x704 pixels and as many cores as they know to use, and must
agree where they do the same thing. They take turns of forty calls each, because a pipeline too
makes one example after the other: single calls in turn would find caches cold, memory returned and
threads asleep, and measure those. Medians of the time on the clock are compared.

elasticdeform  deform_grid, order 1 for image and border map, 0 for labels, mode mirror
OpenCV         what the report of 2023 does: noise, GaussianBlur, remap of each of the three
tfa, albumentations  beside them; they do parts of the same, or with other borders

The last figures are those of the whole input pipeline, from records on disk to batches.
"""

import importlib.util
import os
import resource
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
from environment import run_in_environment

if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its version
    run_in_environment(
        "augment",
        [
            "--no-binary=elasticdeform",
            "elasticdeform==0.5.1",
            "albumentations==2.0.8",
            "tensorflow-addons==0.23.0; python_version < '3.12'",
        ],
    )

import albumentations
import cv2
import elasticdeform
import tensorflow as tf

from unet_keras import load_dataset
from unet_keras.pipeline import geometry
from unet_keras.pipeline.augment import (
    NO_AUGMENTATION,
    Augmentation,
    augment_batch,
    coordinates_from,
    sample_parameters,
)
from unet_keras.pipeline.smoothing import smoothing_error

SHAPE = (520, 704)  # height and width of LIVECell's images
TURNS, CALLS = 3, 40
ALPHA, SIGMAS = 300.0, (4.0, 8.0, 20.0)
CROP, BATCH, IMAGES, EPOCHS = (256, 256), 8, 160, 50
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)

Sides = dict[str, Callable[[], object]]


def make_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image and border map, float32 (H, W), and labels, int32, smooth as real ones are."""
    rng = np.random.default_rng(0)
    image, border = (cv2.GaussianBlur(rng.random(SHAPE, np.float32), (0, 0), 2) for _ in "12")
    labels = (ROWS // 20 * 36 + COLUMNS // 20).astype(np.int32)
    return image, border, labels


def milliseconds(sides: Sides) -> dict[str, float]:
    """Return medians of the sides' times, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS + 1):
        for name, function in sides.items():
            for _ in range(CALLS):
                start = time.perf_counter()
                function()
                if turn > 0:  # compiled
                    times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    for name, value in medians.items():
        print(f"  {name:<44}{value:8.2f} ms")
    return medians


def transformation(augmentation: Augmentation) -> Callable[[], tuple[tf.Tensor, ...]]:
    """Return what draws parameters and transforms the arrays; each call has a number of its own."""
    image, border, labels = (tf.constant(array[..., None]) for array in make_arrays())

    @tf.function
    def transform(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        drawn = sample_parameters(augmentation, 1, number, SHAPE, SHAPE, window=SHAPE)
        return augment_batch(image, border, labels, drawn, augmentation=augmentation, crop=SHAPE)

    numbers = iter(range(10**9))
    return lambda: transform(tf.constant(next(numbers), tf.int64))


def compare_warps() -> float:
    """(a) Displacements of a 3x3 grid, and rotation, drawn and applied."""
    print("\n(a) coarse grid and rotation, 3 arrays")
    arrays, rng = make_arrays(), np.random.default_rng(0)
    moved = Augmentation(flip=False, brightness=0.0, contrast=0.0)
    mild = albumentations.Compose(
        [albumentations.ElasticTransform(alpha=ALPHA, sigma=8.0, p=1.0)],
        additional_targets={"border": "image"},
    )

    def deform_grid() -> list[np.ndarray]:
        displacements, angle = rng.normal(0, 10, (2, 3, 3)), rng.uniform(-180, 180)
        return elasticdeform.deform_grid(
            list(arrays), displacements, order=[1, 1, 0], mode="mirror", rotate=angle
        )

    image, border, labels = arrays
    sides: Sides = {
        "unet_keras": transformation(moved),
        "unet_keras, not compiled": transformation(
            Augmentation(flip=False, brightness=0.0, contrast=0.0, jit_compile=False)
        ),
        "elasticdeform": deform_grid,
        "albumentations, of its own kind, no rotation": lambda: mild(
            image=image, border=border, mask=labels
        ),
    }
    medians = milliseconds(sides)
    return medians["elasticdeform"] / medians["unet_keras"]


def compare_resampling() -> float:
    """Sampling at given coordinates."""
    print(f"\nresampling at the same coordinates, 3 arrays; OpenCV {cv2.__version__}")
    image, border, labels = make_arrays()
    augmentation = Augmentation()
    drawn = sample_parameters(augmentation, 1, 1, SHAPE, SHAPE, window=SHAPE)
    places = coordinates_from(drawn, augmentation=augmentation, crop=SHAPE)
    down, across = (np.ascontiguousarray(places[..., k]) for k in (0, 1))
    pair = np.stack([image, border], axis=-1)
    short = labels.astype(np.uint16)

    @tf.function(jit_compile=True)
    def warp(pair: tf.Tensor, labels: tf.Tensor, places: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return geometry.warp(pair, places), geometry.warp(labels, places, nearest=True)

    def remap(array: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
        return cv2.remap(array, across, down, method, borderMode=cv2.BORDER_REFLECT_101)

    def remaps() -> tuple[np.ndarray, ...]:
        return remap(image), remap(border), remap(short, cv2.INTER_NEAREST)

    inputs = tf.constant(pair), tf.constant(labels), places
    ours, theirs = warp(*inputs), remaps()
    difference = max(np.abs(ours[0][..., k] - theirs[k]).max() for k in (0, 1))
    other = (ours[1].numpy() != theirs[2]).mean()
    print(f"  sides differ by {difference:.1e} of the range, labels in {other:.2%} of the pixels")
    sides: Sides = {
        "unet_keras, image and border as channels": lambda: warp(*inputs),
        "OpenCV, three remaps": remaps,
        "OpenCV, image and border as channels": lambda: (
            remap(pair),
            remap(short, cv2.INTER_NEAREST),
        ),
    }
    # Nothing that reads coordinates and sources and writes results can be faster than this.
    copied = [np.empty_like(array) for array in (down, across, image, border, labels)]
    sides["copying coordinates and sources, NumPy"] = lambda: [
        np.copyto(copy, array)
        for copy, array in zip(copied, (down, across, image, border, labels), strict=True)
    ]
    if importlib.util.find_spec("tensorflow_addons"):
        sides["tfa.image.dense_image_warp, three"] = addons_warp(image, border, labels, places)
    medians = milliseconds(sides)
    ours_name, theirs_name = list(sides)[:2]
    return medians[theirs_name] / medians[ours_name]


def addons_warp(
    image: np.ndarray, border: np.ndarray, labels: np.ndarray, places: tf.Tensor
) -> Callable[[], object]:
    """Return the warp of TensorFlow Addons, whose package cannot be imported beside Keras 3."""
    package = importlib.util.find_spec("tensorflow_addons")
    path = Path(package.submodule_search_locations[0]) / "image" / "dense_image_warp.py"
    for name in ("tensorflow_addons", "tensorflow_addons.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["tensorflow_addons.utils"].types = types.SimpleNamespace(
        TensorLike=object, FloatTensorLike=object
    )
    spec = importlib.util.spec_from_file_location("dense_image_warp", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    flow = (geometry.identity_coordinates(SHAPE) - places)[tf.newaxis]
    arrays = [tf.constant(a[None, ..., None], tf.float32) for a in (image, border, labels)]
    warp = tf.function(lambda: [module.dense_image_warp(array, flow) for array in arrays])
    return warp


def compare_smooth_noise() -> float:
    """(b) Noise in every pixel, smoothed, scaled and applied; the ratio at a sigma of 8 pixels."""
    image, border, labels = make_arrays()
    short, rng = labels.astype(np.uint16), np.random.default_rng(0)

    def opencv(sigma: float) -> Callable[[], object]:
        def transform() -> list[np.ndarray]:
            down, across = (
                start
                + ALPHA
                * cv2.GaussianBlur(
                    rng.random(SHAPE, np.float32) * 2 - 1,
                    (0, 0),
                    sigma,
                    borderType=cv2.BORDER_REFLECT_101,
                )
                for start in (ROWS, COLUMNS)
            )
            return [
                cv2.remap(array, across, down, method, borderMode=cv2.BORDER_REFLECT_101)
                for array, method in (
                    (image, cv2.INTER_LINEAR),
                    (border, cv2.INTER_LINEAR),
                    (short, cv2.INTER_NEAREST),
                )
            ]

        return transform

    ratios = {}
    for sigma in SIGMAS:
        error = max(smoothing_error(side, sigma) for side in SHAPE)
        print(f"\n(b) noise in every pixel, sigma {sigma:g}, 3 arrays; our error {error:.0e}")
        augmentation = Augmentation(
            kind="smooth",
            alpha=ALPHA,
            sigma=sigma,
            rotation_degrees=0.0,
            flip=False,
            brightness=0.0,
            contrast=0.0,
        )
        medians = milliseconds(
            {"unet_keras": transformation(augmentation), "OpenCV": opencv(sigma)}
        )
        ratios[sigma] = medians["OpenCV"] / medians["unet_keras"]
    return ratios[8.0]


def measure_pipeline() -> float:
    """Records on disk to augmented batches of crops; returns crops a second once cached."""
    from unet_keras.records.writer import write_records
    from unet_keras.sources.synthetic import synthetic_references

    cores = len(os.sched_getaffinity(0))
    print(f"\ninput pipeline, {CROP[0]}x{CROP[1]} crops with weights, {cores} cores")
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        counts = {"train": IMAGES, "val": 1, "test": 1}
        write_records(synthetic_references(counts, seed=0, size=SHAPE), Path(folder), workers=cores)
        for name, augmentation in (
            ("crops only", NO_AUGMENTATION),
            ("grid, rotation, flips, grey values", Augmentation()),
            ("the same, appended", Augmentation(mode="append")),
            ("the same, cubic", Augmentation(image_order=3)),
            ("smooth noise, rotation, flips, grey values", Augmentation(kind="smooth")),
        ):
            rates[name], first, growth = crops_a_second(folder, augmentation)
            print(
                f"  {name:<44}{rates[name]:6.0f} crops/s, {rates[name] / cores:.0f} a core; first "
                f"epoch {first:.0f} images/s; memory {growth:+.0f} MB over {EPOCHS} epochs"
            )
    rate = rates["grid, rotation, flips, grey values"]
    for step in (10, 25, 100):
        needed = BATCH / step * 1e3
        print(
            f"  a GPU that takes {step} ms for {BATCH} crops needs {needed:.0f} crops/s: "
            f"{needed / rate * cores:.1f} cores"
        )
    return rate


def crops_a_second(folder: str, augmentation: Augmentation) -> tuple[float, float, float]:
    """Return crops a second of cached images, images a second of the first epoch, growth in MB."""
    given = {"crop": CROP, "augment": augmentation, "seed": 1}
    # One image's batches first: what is compiled once is not part of any epoch.
    for _ in load_dataset(folder, "val", training=True, batch_size=BATCH, **given).take(2):
        pass
    start = time.perf_counter()
    batches = iter(load_dataset(folder, "train", batch_size=BATCH, **given))
    count = IMAGES // BATCH
    for _ in range(count):
        next(batches)
    first = IMAGES / (time.perf_counter() - start)
    rates, resident = [], []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
        rates.append(IMAGES / (time.perf_counter() - start))
        resident.append(megabytes())
    return statistics.median(rates[2:]), first, resident[-1] - resident[4]


def megabytes() -> float:
    """Return the memory that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> int:
    """Time all sides in turns and print table and ratios."""
    ratios = {
        "warp_vs_elasticdeform": compare_warps(),
        "resample_vs_opencv": compare_resampling(),
        "smooth_noise_vs_opencv": compare_smooth_noise(),
        "cached_crops_per_second": measure_pipeline(),
    }
    print()
    for name, ratio in ratios.items():
        print(f"ratio {name} {ratio:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
