"""From record files to batches: parse, cache, shuffle, number, cut, transform, pack.

    x       float32 (B, H, W, C)     raw grey values; the network normalizes
    y       float32 (B, H', W', 2+T) class index, T regression maps, weight w_c(class) + w0 e
    H', W'  H, W less the margin that a network of valid convolutions loses on each side

Training data are endless. Each image comes once before any comes twice, in an order that depends on
seed and round only, and what happens to it depends on seed and running number only: a data set that
starts at `start_step` gives the batches that one from the start gives after so many steps.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from unet_keras.pipeline.arguments import (
    check_amounts,
    check_choices,
    check_records,
    two_sides,
)
from unet_keras.pipeline.augment import (
    NO_AUGMENTATION,
    Augmentation,
    augment_batch,
    cut_windows,
    device_name,
    sample_parameters,
    window_size,
)
from unet_keras.pipeline.kinds import Kind
from unet_keras.pipeline.packing import Packing, Weights
from unet_keras.pipeline.reading import Example, read_endlessly, read_in_order
from unet_keras.records.manifest import Manifest, demand_intact, read_manifest
from unet_keras.settings.checks import class_weight_numbers


def load_dataset(
    path: str | Path,
    split: str,
    *,
    crop: tuple[int, int],
    batch_size: int,
    augment: Augmentation | None = None,
    weights: Weights = "packed",
    seed: int = 0,
    start_step: int = 0,
    training: bool | None = None,
    kind: Kind = "cells",
    outline_pixels: int = 1,
    border_weight: float = 10.0,
    class_weights: Sequence[float] = (),
    regression_maps: Sequence[str] = (),
    margin: int = 0,
    cache: bool = True,
) -> tf.data.Dataset:
    """Read batches of crops from records.

    Args:
        path: Folder of the records.
        split: `train`, `val` or `test`.
        crop: Height and width in pixels of what the network sees.
        batch_size: Crops a batch, at least 1.
        augment: How crops are transformed, and whether transformed ones take the place of plain
            ones or follow them (`mode`); None leaves crops as they are.
        weights: `packed` yields (x, y) for this package's losses; `sample_weight` yields
            (x, class index (B, H', W', 1), w (B, H', W')) for stock losses, `none` the first two,
            for which border and class weights do not count.
        seed: Decides order, crops and transformations.
        start_step: Batches to leave out, as if they had been seen; `tf.train.Checkpoint` cannot
            keep the place of an iterator. With `cache`, all images are decoded before.
        training: Endless, shuffled, at random places; else each image once, its center. None is
            True for `train` only.
        kind: What the class index tells: `cells`, `boundary` or `cells_and_borders`; see
            `pipeline.kinds`.
        outline_pixels: How many pixels wide the borders of `cells_and_borders` are.
        border_weight: w0 of Ronneberger et al. (2015), eq. 2, at least 0.
        class_weights: w_c of background, class 1, ...; empty for 1 everywhere.
        regression_maps: Maps that packed y carries between class and weight: `[distance]`.
        margin: Pixels that the network loses on each side. Labels are of what is left of a crop,
            which lies anywhere in the image, though the crop may reach beyond it.
        cache: Keep decoded records in memory: about 4 bytes a pixel more than the image has.

    Returns:
        A data set of batches, as the head of this file says.

    Raises:
        InputError: No records or damaged ones, no image in the split, a map that they lack, a crop
            too small, a device that is not there, a value out of its range.
    """
    crop = two_sides(crop)
    check_choices(weights, kind, regression_maps)
    check_amounts(
        batch_size=(batch_size, 1), start_step=(start_step, 0), margin=(margin, 0),
        outline_pixels=(outline_pixels, 1), border_weight=(border_weight, 0),
    )  # fmt: skip
    if weights == "none":
        border_weight, class_weights = 0.0, ()  # of which nothing is handed on
    class_weights = class_weight_numbers(class_weights, otherwise="")
    manifest = read_manifest(path)
    demand_intact(path)
    training = split == "train" if training is None else training
    check_records(
        manifest, path, split, crop, margin, kind, class_weights, border_weight, regression_maps
    )
    device_name("auto" if augment is None else augment.device)  # an error here, not in a graph
    maps = (*regression_maps, *(("border",) if border_weight > 0 else ()))
    variants = _variants(augment if training else None)
    recipe = _Recipe(
        crop=crop,
        variants=variants,
        windows=tuple(window_size(one, crop, _common_size(manifest)) for one in variants),
        training=training,
        seed=seed,
        channels=manifest.channels,
        grey_mean=manifest.mean,
        grey_scale=manifest.scale,
        packing=Packing(
            separate=manifest.separate,
            kind=kind,
            outline_pixels=outline_pixels,
            border_weight=border_weight,
            class_weights=tuple(class_weights),
            regression_maps=len(regression_maps),
            margin=margin,
            weights=weights,
        ),
    )
    # Of two variants, both of a batch are made together, and one may have been seen.
    turn, skipped = divmod(start_step, len(variants))
    start = turn * batch_size
    stored: dict[str, Any] = {"manifest": manifest, "split": split, "maps": maps, "cache": cache}
    if training:
        examples = read_endlessly(Path(path), **stored, seed=seed, start=start)
        batches = tf.data.INFINITE_CARDINALITY
    else:
        examples = read_in_order(Path(path), **stored, start=start)
        batches = -(-max(manifest.splits[split].images - start, 0) // batch_size)
    made = recipe.batches(examples, batch_size).skip(skipped)
    # Reading files hides how many there are, which Keras wants to know.
    return made.prefetch(tf.data.AUTOTUNE).apply(tf.data.experimental.assert_cardinality(batches))


@dataclass(frozen=True)
class _Recipe:
    """What the steps between decoded records and batches need; mostly arguments of `load_dataset`.

    Attributes:
        variants: What happens to each batch: one, or two whose results follow each other.
        windows: The size of what each of them cuts out of an image.
    """

    crop: tuple[int, int]
    variants: tuple[Augmentation, ...]
    windows: tuple[tuple[int, int], ...]
    training: bool
    seed: int
    channels: int
    grey_mean: float
    grey_scale: float
    packing: Packing

    def batches(self, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Cut, transform and pack; the variants of a batch follow each other."""
        made = (
            examples.map(self.cut, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=self.training)
            .map(self.finish, num_parallel_calls=tf.data.AUTOTUNE)
        )
        return made.unbatch() if len(self.variants) > 1 else made

    def cut(self, number: tf.Tensor, example: Example) -> tuple[Example, ...]:
        """Draw what happens to one example and cut the window it needs, for each variant."""
        size = tf.shape(example["image"])[:2]
        cuts = []
        for variant, window in zip(self.variants, self.windows, strict=True):
            if self.training:
                parameters = sample_parameters(
                    variant, self.seed, number, size, self.crop,
                    window=window, channels=self.channels, margin=self.packing.margin,
                )  # fmt: skip
            else:
                parameters = {"window_top_left": (size - tf.constant(self.crop)) // 2}
            parts = cut_windows(parameters, window, *example.values())
            cuts.append({"parameters": parameters, **dict(zip(example, parts, strict=True))})
        return tuple(cuts)

    def finish(self, *windows: Example) -> tuple[tf.Tensor, ...]:
        """Transform batches of windows and pack them for the network; two variants are stacked."""
        batches = [
            self._finish(variant, batch)
            for variant, batch in zip(self.variants, windows, strict=True)
        ]
        if len(batches) == 1:
            return batches[0]
        return tuple(tf.stack(parts) for parts in zip(*batches, strict=True))

    def _finish(self, variant: Augmentation, batch: Example) -> tuple[tf.Tensor, ...]:
        image, maps, labels = augment_batch(
            batch["image"],
            batch.get("maps"),
            batch["labels"],
            batch["parameters"],
            augmentation=variant,
            crop=self.crop,
            grey_mean=self.grey_mean,
            grey_scale=self.grey_scale,
        )
        pack = _compiled(self.packing) if variant.jit_compile else self.packing
        with tf.device(device_name(variant.device)):
            return image, *pack(labels, maps)


@functools.lru_cache(maxsize=32)
def _compiled(packing: Packing) -> Callable[..., tuple[tf.Tensor, ...]]:
    return tf.function(packing, jit_compile=True)


def _variants(augment: Augmentation | None) -> tuple[Augmentation, ...]:
    """Return what happens to each batch, one after the other."""
    if augment is None:
        return (NO_AUGMENTATION,)
    plain = replace(NO_AUGMENTATION, jit_compile=augment.jit_compile, device=augment.device)
    return {"none": (plain,), "replace": (augment,), "append": (plain, augment)}[augment.mode]


def _common_size(manifest: Manifest) -> tuple[int, int] | None:
    """Return the size of all images where they agree."""
    return manifest.smallest_size if manifest.smallest_size == manifest.largest_size else None
