"""Writes records: shards and their manifest, the same bytes whatever happened on the way.

A conversion that fails leaves the records that were there. One that is killed goes on where it
was, part by part; one that is killed while files are moved goes on with moving them.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings
from unet_keras.records.manifest import (
    MANIFEST_NAME,
    STAMP_NAME,
    WORK_FOLDER,
    Manifest,
    read_manifest,
)
from unet_keras.records.parts import PartResult, state_of, write_text
from unet_keras.records.placing import (
    LOCK_NAME,
    SOURCE_NAME,
    demand_no_others,
    publish,
    working_folder,
)
from unet_keras.records.shard_files import Shard, has_its_content
from unet_keras.records.shards import ShardPlan, join_parts, plan_shards, take_up
from unet_keras.records.statistics import Statistics, demand_one_kind
from unet_keras.records.summary import summarize
from unet_keras.records.workers import convert_parts
from unet_keras.settings.checks import demand_names
from unet_keras.sources.base import SPLITS, SampleReference

logger = logging.getLogger(__name__)


def write_records(
    references: Sequence[SampleReference],
    path: str | Path,
    *,
    maps: Sequence[str] = ("border",),
    sigma_pixels: float = 5.0,
    separate: bool = True,
    overlap: str = "smallest",
    workers: int | None = None,
    shard_images: int = 256,
    num_classes: int = 1,
    progress: Callable[[int], object] | None = None,
    configuration: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    seconds: dict[str, float] | None = None,
) -> Manifest:
    """Convert annotated images into TFRecord shards with a manifest.

    Records of the same images and settings that are there already are left as they are.

    Args:
        references: The images; within a split they keep their order.
        path: Folder of the records; made where it is absent.
        maps: Names of the maps to store: `border`, `distance`.
        sigma_pixels: Width of the border weights, above 0.
        separate: Whether pixels that touch another instance become background.
        overlap: Which instance owns a pixel that several cover.
        workers: Processes that convert, at least 1; None takes one a core.
        shard_images: Images a shard at most, at least 1.
        num_classes: K, where more classes may occur than the references know of, at least 1.
        progress: Called with the number of images that were just finished.
        configuration: What the caller asked for, to be kept in the manifest; JSON values.
        origin: Where the images are, as `origin_of` tells, kept beside the manifest.
        seconds: Filled with the seconds spent in each stage, added up over all processes.

    Returns:
        The manifest.

    Raises:
        InputError: There is no image, a split is none, an id comes twice, no image has an instance,
            an image or annotation is damaged, images differ in dtype or channels, the disk is full,
            the folder holds files of others, or another process is converting into it or reads it.
    """
    demand_names(maps, "records.maps")
    references = tuple(references)
    settings = TargetSettings(tuple(maps), float(sigma_pixels), separate, overlap)
    path = Path(path)
    demand_no_others(path)
    described: dict[str, Any] = json.loads(json.dumps(dict(configuration or {})))
    num_classes = max([num_classes, *(one.class_count for one in references)])
    plans = plan_shards(references, path / WORK_FOLDER, settings, shard_images)
    stamp = _stamp(plans, described, num_classes)
    with working_folder(path) as work:
        publish(path, work)
        current = _current(path, stamp)
        if current is not None:
            logger.info("%s holds these records already", path)
            _keep_origin(path, origin)
            return current
        write_text(work / SOURCE_NAME, json.dumps(described))
        shards, results = _convert(work, plans, workers, progress)
        if seconds is not None:
            seconds |= sum((Counter(result.seconds) for result in results.values()), Counter())
        statistics = _statistics(plans, results)
        _demand_instances(statistics)
        listed = {split: [shards[p.file] for p in plans if p.split == split] for split in SPLITS}
        manifest = summarize(statistics, listed, settings, num_classes, described)
        state = {"stamp": stamp, "manifest": _digest(manifest), "images": _figures(statistics)}
        write_text(work / STAMP_NAME, json.dumps(state | _told(origin)))
        write_text(work / MANIFEST_NAME, manifest.to_text())
        publish(path, work)
        return manifest


def _stamp(plans: Sequence[ShardPlan], configuration: dict[str, Any], num_classes: int) -> str:
    parts = [[plan.file, *(part.name for part in plan.parts)] for plan in plans]
    text = json.dumps([parts, configuration, num_classes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _statistics(
    plans: Sequence[ShardPlan], results: Mapping[str, PartResult]
) -> dict[str, Statistics]:
    """Add up what was counted, split by split, in the order of the images."""
    sums = {split: Statistics() for split in SPLITS}
    for plan in plans:
        for part in plan.parts:
            sums[plan.split].add(results[part.name].statistics)
    return sums


def _demand_instances(statistics: Mapping[str, Statistics]) -> None:
    """Refuse images from which nothing can be learned, nor anything scored.

    Raises:
        InputError: No image has an instance.
    """
    images = sum(counted.images for counted in statistics.values())
    if not any(counted.instances for counted in statistics.values()):
        name = next(one.file_name for some in statistics.values() for one in some.figures)
        raise InputError(
            f"None of the {images} images has an instance, the first is {name}: the masks or "
            "annotations are empty; see that source.annotations names the right ones."
        )


def _figures(statistics: Mapping[str, Statistics]) -> list[dict[str, Any]]:
    """What the data report is made from, so that it can be made again without converting."""
    return [asdict(figures) for counted in statistics.values() for figures in counted.figures]


def _current(path: Path, stamp: str) -> Manifest | None:
    """Return the manifest of records that are already what is asked for.

    All are read: who is told of a damaged shard mends it by this very command.
    """
    state = state_of(path / STAMP_NAME)
    if state.get("stamp") != stamp:
        return None
    try:
        manifest = read_manifest(path)
    except InputError:
        return None
    intact = all(has_its_content(path, shard) for shard in manifest.shards)
    return manifest if intact and state.get("manifest") == _digest(manifest) else None


def _told(origin: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"origin": dict(origin)} if origin else {}


def _keep_origin(path: Path, origin: Mapping[str, Any] | None) -> None:
    """Note where the images of records are by now."""
    state = state_of(path / STAMP_NAME)
    if origin and state.get("origin") != origin:
        write_text(path / STAMP_NAME, json.dumps(state | _told(origin)))


def _convert(
    work: Path,
    plans: Sequence[ShardPlan],
    workers: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[dict[str, Shard], dict[str, PartResult]]:
    """Convert what an earlier run did not finish; return shards by file, results by part.

    A shard is joined as soon as its last part is there, and its parts removed, so that the disk
    never holds everything twice.
    """
    shards, results = take_up(work, plans, keep={LOCK_NAME, SOURCE_NAME})
    missing = {
        part.name: plan
        for plan in plans
        if plan.file not in shards
        for part in plan.parts
        if part.name not in results
    }
    parts = [part for plan in plans for part in plan.parts if part.name in missing]
    left = Counter(plan.file for plan in missing.values())
    for plan in plans:
        if plan.file not in shards and not left[plan.file]:
            shards[plan.file] = join_parts(work, plan, results)
    if results:
        logger.info("%d of %d parts were converted before", len(results), len(results) + len(parts))
    report = progress or (lambda images: None)
    kinds: dict[str, str] = {}
    for result in chain(list(results.values()), convert_parts(parts, workers=workers)):
        results[result.name] = result
        kinds = result.statistics.kinds | kinds
        demand_one_kind(kinds)  # at once, not when all are converted
        report(result.statistics.images)
        if result.name in missing:
            plan = missing[result.name]
            left[plan.file] -= 1
            if not left[plan.file]:
                shards[plan.file] = join_parts(work, plan, results)
    return shards, results


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.to_text().encode()).hexdigest()
