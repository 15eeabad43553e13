"""Whether records are those that a run was trained on, and what it has seen of others."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_keras.errors import InputError
from unet_keras.records.manifest import MANIFEST_NAME, STAMP_NAME, Manifest, read_manifest
from unet_keras.records.parts import state_of
from unet_keras.sources.base import counted

logger = logging.getLogger(__name__)

_NAMED = 3  # in a sentence


def demand_records(run: Path, records: Path) -> None:
    """Say from where a run's records are looked for, if they are not there.

    Args:
        run: The run's folder.
        records: Where its config, or somebody, says that they are.

    Raises:
        InputError: There are none.
    """
    if (records / MANIFEST_NAME).exists():
        return
    seen = "" if records.is_absolute() else f" below {Path.cwd()}, where this was started"
    raise InputError(
        f"{run} was trained on records.path={records}, but there are no records{seen}: give "
        "records.path=FOLDER, where they are, or start this where training was started"
    )


def check_trained(run: Path, records: Path, split: str, own: Path | None = None) -> None:
    """See that images which a run has learned are not scored as if it had never seen them.

    Records that somebody chose in place of the run's are taken; a warning says which of their
    images the run was trained on.

    Args:
        run: The run's folder; without a manifest in it nothing is known.
        records: Those that shall be scored.
        split: Which part of them.
        own: Those of the run's config, where somebody chose others.

    Raises:
        InputError: The records where the run's were are of other images or splits.
    """
    if not (run / MANIFEST_NAME).is_file():
        return
    begun, found = read_manifest(run), read_manifest(records)
    changed = _changed(begun, found)
    if not changed:
        return
    if own is None:
        raise InputError(
            f"{records} is not what {run} was trained on ({', '.join(changed)}), so that images it "
            "has learned may be scored as new ones: make the records again as they were, or give "
            "records.path=OTHER to score these or others all the same"
        )
    if split != "train":
        _warn(run, _learned(begun, [own, records]), records, split)


def _changed(begun: Manifest, found: Manifest) -> list[str]:
    """What decides scores and differs, in words."""
    changed = [
        f"other {name} images"
        for name, part in begun.splits.items()
        if part.source_digest != found.splits[name].source_digest
    ]
    asked = {
        "targets.separate_touching": (begun.separate, found.separate),
        "targets.overlap": (begun.overlaps.rule, found.overlaps.rule),
    }
    return changed + [f"{key}={new}, not {old}" for key, (old, new) in asked.items() if new != old]


def _warn(run: Path, learned: set[str], records: Path, split: str) -> None:
    scored = _images(records, split)
    if not (learned and scored):
        logger.warning(
            "whether %s was trained on images of split %r of %s cannot be told anymore",
            run, split, records,
        )  # fmt: skip
        return
    seen = [one["file_name"] for one in scored if one["pixels_digest"] in learned]
    if seen:
        more = ", ..." if len(seen) > _NAMED else ""
        logger.warning(
            "%s was trained on %s of split %r of %s, whose scores say nothing of new ones: %s%s",
            run, counted(len(seen), "image"), split, records, ", ".join(seen[:_NAMED]), more,
        )  # fmt: skip


def _learned(begun: Manifest, places: Sequence[Path]) -> set[str]:
    """Digests of the training images' pixels, from whatever records still have just these."""
    wanted = begun.splits["train"].source_digest
    for place in places:
        try:
            held = read_manifest(place).splits["train"].source_digest
        except InputError:
            continue
        if held == wanted:
            return {one["pixels_digest"] for one in _images(place, "train")}
    return set()


def _images(records: Path, split: str) -> list[dict[str, Any]]:
    """The figures of a split's images, as the conversion left them; none where they are gone."""
    listed = state_of(records / STAMP_NAME).get("images", [])
    return [one for one in listed if one["split"] == split]
