"""Shards: laid out before anything is converted, joined from their parts when those are there.

    WORK/<digest>.part, <digest>.json                a part's records, and what was counted in it
    WORK/<split>-00000-of-00016.tfrecord, .json      a joined shard, and which parts it has

The small JSON file is written last: where it is, what it accounts for is complete.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings
from unet_keras.records.parts import (
    Part,
    PartResult,
    UnfinishedError,
    account_file,
    finished_part,
    part_file,
    plan_parts,
    replacing,
    state_of,
    write_text,
)
from unet_keras.records.shard_files import Shard
from unet_keras.sources.base import SPLITS, SampleReference


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be.

    Attributes:
        file: Its name.
        split: Of its images.
        parts: What it is joined from, in order.
    """

    file: str
    split: str
    parts: list[Part]


def plan_shards(
    references: Sequence[SampleReference], work: Path, settings: TargetSettings, shard_images: int
) -> list[ShardPlan]:
    """Lay out shards of about equal size, in the order of splits and references.

    Args:
        references: The images.
        work: The folder of the conversion.
        settings: What is made of each image.
        shard_images: Images a shard at most, at least 1.

    Raises:
        InputError: There is no image, `shard_images` is below 1, a split is none, or two images
            have one id.
    """
    if not references:
        raise InputError(f"There is no image to convert into {work.parent}; check the source.")
    if shard_images < 1:
        raise InputError(f"records.shard_images={shard_images} must be at least 1.")
    known: set[str] = set()
    for reference in references:
        if reference.split not in SPLITS:
            raise InputError(
                f"The image {reference.image_id} is in split {reference.split!r}; splits are "
                f"{', '.join(SPLITS)}."
            )
        if reference.image_id in known:
            raise InputError(f"Two images have the id {reference.image_id}; ids must be unique.")
        known.add(reference.image_id)
    plans = []
    for split in SPLITS:
        mine = [reference for reference in references if reference.split == split]
        count = -(-len(mine) // shard_images)
        for k in range(count):
            some = mine[len(mine) * k // count : len(mine) * (k + 1) // count]
            file = f"{split}-{k:05d}-of-{count:05d}.tfrecord"
            plans.append(ShardPlan(file, split, plan_parts(some, work, settings)))
    return plans


def take_up(
    work: Path, plans: Sequence[ShardPlan], *, keep: Set[str]
) -> tuple[dict[str, Shard], dict[str, PartResult]]:
    """Find the shards and parts that an earlier run finished, and remove all else it left.

    Args:
        work: The folder of the conversion.
        plans: What is to be converted now.
        keep: Names of files to leave alone.

    Returns:
        Finished shards by file, finished parts by name.
    """
    shards: dict[str, Shard] = {}
    results: dict[str, PartResult] = {}
    kept = set(keep)
    for plan in plans:
        names = [part.name for part in plan.parts]
        mine = {name: result for name in names if (result := finished_part(work, name))}
        state = state_of(_account(work, plan))
        shard = state.get("shard", {})
        if state.get("parts") == names == list(mine) and _has_size(work / plan.file, shard):
            shards[plan.file] = Shard(**shard)
            kept |= {plan.file, _account(work, plan).name}
        else:
            mine = {
                name: result
                for name, result in mine.items()
                if _has_size(part_file(work, name), {"bytes": result.bytes})
            }
            kept |= {part_file(work, name).name for name in mine}
        kept |= {account_file(work, name).name for name in mine}
        results |= mine
    for file in work.iterdir():
        if file.name not in kept:
            file.unlink(missing_ok=True)  # a worker that outlives its parent a moment renames one
    return shards, results


def join_parts(work: Path, plan: ShardPlan, results: Mapping[str, PartResult]) -> Shard:
    """Join the parts of a shard end to end, account for it, and remove them.

    Raises:
        UnfinishedError: A part is not as it was written, or the disk is full.
    """
    digest = hashlib.sha256()
    with replacing(work / plan.file) as temporary, temporary.open("wb") as shard:
        for part in plan.parts:
            content = part_file(work, part.name).read_bytes()
            if hashlib.sha256(content).hexdigest() != results[part.name].sha256:
                account_file(work, part.name).unlink()
                raise UnfinishedError(
                    f"{part_file(work, part.name)} was damaged on the disk; start again: the rest "
                    "of what is finished is kept."
                )
            shard.write(content)
            digest.update(content)
        size = shard.tell()
        shard.flush()
        os.fsync(shard.fileno())
    images = sum(len(part.references) for part in plan.parts)
    joined = Shard(plan.file, images, size, digest.hexdigest())
    account = {"parts": [part.name for part in plan.parts], "shard": asdict(joined)}
    write_text(_account(work, plan), json.dumps(account))
    for part in plan.parts:
        part_file(work, part.name).unlink()
    return joined


def _account(work: Path, plan: ShardPlan) -> Path:
    return work / f"{plan.file}.json"


def _has_size(file: Path, state: Mapping[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == state.get("bytes")
