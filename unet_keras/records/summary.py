"""From what was counted to the manifest."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from unet_keras.records.build import TargetSettings
from unet_keras.records.manifest import Group, Manifest, OverlapCounts, Split
from unet_keras.records.parts import library_versions
from unet_keras.records.schema import SCHEMA_VERSION
from unet_keras.records.shard_files import Shard
from unet_keras.records.statistics import Statistics


def summarize(
    statistics: Mapping[str, Statistics],
    shards: Mapping[str, Sequence[Shard]],
    settings: TargetSettings,
    num_classes: int,
    configuration: dict[str, Any],
) -> Manifest:
    """Make the manifest of finished shards.

    Args:
        statistics: What was counted, by split.
        shards: The files, by split.
        settings: What was made of each image.
        num_classes: Fewest classes to reckon with, at least 1; more where more occur.
        configuration: What the caller asked for.

    Raises:
        InputError: Images of different splits differ in dtype or channels.
    """
    everything = Statistics()
    for some in statistics.values():
        everything.add(some)
    # What the network is normalized and weighed by comes from training images, where there are.
    known = statistics["train"] if statistics["train"].images else everything
    num_classes = max(num_classes, *map(int, everything.class_pixels or {"0": 0}))
    deviation = math.sqrt(known.grey.squares / known.grey.count) if known.grey.count else 0.0
    image_dtype, channels = next(iter(everything.kinds)).split(" x ")
    low_height, low_width, high_height, high_width = everything.sizes
    return Manifest(
        schema_version=SCHEMA_VERSION,
        splits={name: _split(some, shards[name]) for name, some in statistics.items()},
        num_classes=num_classes,
        class_frequencies=_frequencies(known.class_pixels, num_classes),
        mean=known.grey.mean,
        scale=deviation or 1.0,
        channels=int(channels),
        image_dtype=image_dtype,
        smallest_size=(low_height, low_width),
        largest_size=(high_height, high_width),
        most_instances=everything.most_instances,
        maps=settings.maps,
        sigma_pixels=settings.sigma_pixels,
        separate=settings.separate,
        overlaps=_overlaps(everything, settings.overlap),
        versions=library_versions(),
        configuration=configuration,
        ranges=known.ranges,
        outline_share=known.outline_pixels / max(1, known.pixels),
    )


def _split(counted: Statistics, shards: Sequence[Shard]) -> Split:
    return Split(
        images=counted.images,
        instances=counted.instances,
        pixels=counted.pixels,
        shards=tuple(shards),
        groups={name: Group(*counts) for name, counts in sorted(counted.groups.items())},
        source_digest=hashlib.sha256("\n".join(counted.sources).encode()).hexdigest(),
    )


def _overlaps(counted: Statistics, rule: str) -> OverlapCounts:
    return OverlapCounts(
        rule=rule,
        shared_pixels=counted.shared_pixels,
        cut_instances=counted.cut_instances,
        vanished_instances=sum(len(numbers) for numbers in counted.vanished.values()),
        vanished={name: tuple(numbers) for name, numbers in sorted(counted.vanished.items())},
        touching_instances=counted.touching_instances,
        without_pixels=counted.without_pixels,
    )


def _frequencies(pixels: Mapping[str, int], num_classes: int) -> tuple[float, ...]:
    total = max(1, sum(pixels.values()))
    return tuple(pixels.get(str(k), 0) / total for k in range(num_classes + 1))
