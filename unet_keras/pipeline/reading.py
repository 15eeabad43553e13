"""Records from disk: decoded into few bytes a pixel, cached, in an order that a seed decides.

    image   as recorded            (H, W, C)
    labels  uint16 or int32        (H, W, N)  label map, and the class map if there are classes
    maps    uint16                 (H, W, T)  in steps of 1 / MAP_STEPS, as recorded

What is cached, cut and copied stays this narrow; resampling makes floats of crops only.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_keras.pipeline.packing import classes_from
from unet_keras.pipeline.touching import extend_border
from unet_keras.records.manifest import Manifest
from unet_keras.records.schema import MAP_STEPS, parse_record

Example = dict[str, tf.Tensor]

# Records held for shuffling: serialized ones, or where decoded ones are cached just pointers.
SHUFFLE_BUFFER = 1024
# Shards read in turn, each of which takes a file handle and a buffer of 256 KiB.
SHARDS_IN_TURN = 64


def read_in_order(
    path: Path,
    *,
    manifest: Manifest,
    split: str,
    maps: Sequence[str],
    cache: bool,
    start: int = 0,
) -> tf.data.Dataset:
    """Yield (number, decoded example) once for each image, in the order of the shards.

    Returns:
        int64 (), and by name `image` (H, W, C), `labels` (H, W, N) and, if there are any, `maps`
        (H, W, T), of the types at the head of this file.
    """
    serialized = tf.data.TFRecordDataset(shard_paths(path, manifest, split))
    decode = _decoder(manifest, maps)
    if cache:
        return _decoded(serialized, decode).cache().skip(start).enumerate(start)
    return _decoded(serialized.skip(start), decode).enumerate(start)


def read_endlessly(
    path: Path,
    *,
    manifest: Manifest,
    split: str,
    maps: Sequence[str],
    cache: bool,
    seed: int,
    start: int = 0,
) -> tf.data.Dataset:
    """Yield (running number, decoded example) in an order of its own each round; see `endless`.

    Returns:
        int64 () and tensors (H, W, ...) as those of `read_in_order`.
    """
    decode = _decoder(manifest, maps)
    count = manifest.splits[split].images
    serialized = mixed_shards(shard_paths(path, manifest, split), count, seed)
    if cache:
        examples = _decoded(serialized, decode).cache()
        return endless(examples, count, seed, start).enumerate(start)
    # Shuffled before they are decoded, and skipped too: both take little memory and time then.
    return _decoded(endless(serialized, count, seed, start), decode).enumerate(start)


def mixed_shards(files: Sequence[str], count: int, seed: int) -> tf.data.Dataset:
    """Read records for `endless`, which alone would mix those only that lie near each other.

    Sources list cell type after cell type and plate after plate: where the buffer does not hold all
    records, it is filled from many shards in turn.

    Args:
        files: The shards.
        count: Of their records.
        seed: Decides which shards are read together.

    Returns:
        Serialized records, in the same order each time.
    """
    if count <= SHUFFLE_BUFFER:
        return tf.data.TFRecordDataset(files)
    shuffled = [str(file) for file in np.random.default_rng(seed).permutation(list(files))]
    return tf.data.Dataset.from_tensor_slices(shuffled).interleave(
        tf.data.TFRecordDataset, cycle_length=min(len(files), SHARDS_IN_TURN)
    )


def endless(examples: tf.data.Dataset, count: int, seed: int, start: int) -> tf.data.Dataset:
    """Go round and round, every example once before any comes twice.

    Args:
        examples: To be shuffled.
        count: How many they are, at least 1.
        seed: Decides, with the number of the round, the order.
        start: Examples to leave out, as if they had been seen.
    """

    def one_round(number: tf.Tensor) -> tf.data.Dataset:
        # A one-to-one scrambling of the rounds' numbers: no two rounds have the same order.
        order = tf.random.experimental.index_shuffle(number, [seed, 0], tf.int32.max)
        return _shuffled(examples, min(count, SHUFFLE_BUFFER), order)

    rounds = tf.data.Dataset.range(start // count, tf.int64.max).flat_map(one_round)
    return rounds.skip(start % count)


def _shuffled(examples: tf.data.Dataset, buffer: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Shuffle by this seed alone; `Dataset.shuffle` mixes the global seed in, and fails at 0."""
    parts = tf.nest.flatten(examples.element_spec)
    variant = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(examples),
        buffer_size=buffer,
        seed=seed,
        seed2=1,
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        reshuffle_each_iteration=False,
        output_types=[part.dtype for part in parts],
        output_shapes=[part.shape for part in parts],
    )
    return tf.data.experimental.from_variant(variant, examples.element_spec)


def _decoded(
    serialized: tf.data.Dataset, decode: Callable[[tf.Tensor], Example]
) -> tf.data.Dataset:
    return serialized.map(decode, num_parallel_calls=tf.data.AUTOTUNE)


def shard_paths(path: Path, manifest: Manifest, split: str) -> list[str]:
    """The files of a split, in order."""
    return [str(path / shard.file) for shard in manifest.splits[split].shards]


def _decoder(manifest: Manifest, maps: Sequence[str]) -> Callable[[tf.Tensor], Example]:
    """Return what makes an example of a serialized record."""
    narrow = tf.uint16 if manifest.most_instances <= tf.uint16.max else tf.int32

    def decode(serialized: tf.Tensor) -> Example:
        record = parse_record(
            serialized, maps=maps, channels=manifest.channels, image_dtype=manifest.image_dtype
        )
        labels = [record["labels"]]
        if manifest.num_classes > 1:
            # The class of each pixel's instance moves together with its label, in one stack.
            labels.append(tf.gather(tf.concat([[0], record["classes"]], axis=0), labels[0]))
        stacked = tf.stack(labels, axis=-1)
        example = {"image": record["image"], "labels": tf.cast(stacked, narrow)}
        if maps:
            foreground = classes_from(stacked, separate=manifest.separate) > 0
            values = [
                extend_border(record[name], foreground) if name == "border" else record[name]
                for name in maps
            ]
            steps = tf.round(tf.stack(values, axis=-1) * MAP_STEPS)
            example["maps"] = tf.cast(steps, tf.uint16)
        return example

    return decode
