"""Which images a batch was made of, found out afterwards: batches themselves carry no names."""

from pathlib import Path

import tensorflow as tf

from unet_keras.pipeline.reading import endless, mixed_shards, shard_paths
from unet_keras.records.manifest import read_manifest
from unet_keras.records.schema import parse_record


def batch_images(
    records: Path | str, *, batch_size: int, seed: int, position: int
) -> tuple[str, ...]:
    """Return the file names of the images in a batch of training data, in its order.

    Goes through the records once, without decoding an image. The order of the examples depends on
    their number and the seed, not on what is in them.

    Args:
        records: Their folder.
        batch_size: Images a batch.
        seed: What `load_dataset` was given.
        position: The batch's place in the data, from 0.
    """
    manifest = read_manifest(records)
    images = manifest.splits["train"].images
    files = shard_paths(Path(records), manifest, "train")

    def name_of(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        record = parse_record(
            serialized, maps=(), channels=manifest.channels, image_dtype=manifest.image_dtype
        )
        return {"file_name": record["file_name"]}

    names = mixed_shards(files, images, seed).map(name_of)
    order = endless(names, images, seed, position * batch_size)
    return tuple(example["file_name"].numpy().decode() for example in order.take(batch_size))
