"""Where records come from: what they say of it themselves, and whether a config means the same.

RECORDS/manifest.json       `configuration`, the source's keys as they were given
RECORDS/.conversion.json    `origin`, by key: `path`, resolved, and `files`, their
                            sizes in bytes and the times of their last change in ns
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_keras.errors import InputError
from unet_keras.records.manifest import STAMP_NAME
from unet_keras.records.parts import state_of
from unet_keras.settings import Source
from unet_keras.sources.base import SPLITS, counted
from unet_keras.sources.imagej import SUFFIXES as OUTLINES
from unet_keras.sources.listing import SUFFIXES, list_images

PLACES = ("images", "annotations", "lists")
_COMMON = ("kind", "pixel_size", "channels", "group_pattern")
# Of keys that came later: what records from before them were made with.
BEFORE = {"channels": 0, "cells": "typical", "split_in_order": False}
_READ = {
    "coco": (*_COMMON, "images", "annotations", "on_leak"),
    "folders": (
        *_COMMON, "images", "annotations", "lists", "mask_kind", "class_values", "fractions",
        "split_by_group", "split_in_order",
    ),
    "synthetic": (*_COMMON, "counts", "size", "cells"),
}  # fmt: skip


def demand_read(source: Source) -> None:
    """Refuse folders that are given to a kind of source that reads none.

    Raises:
        InputError: Names the key.
    """
    for key in PLACES:
        place = getattr(source, key)
        if place and source.kind == "synthetic":
            raise InputError(
                f"source.{key}={place} is given, but source.kind=synthetic reads no folder: give "
                "source.kind=folders or source.kind=coco"
            )


def origin_of(source: Source) -> dict[str, Any]:
    """Tell where a source is, and of folders what they hold, by names, sizes and times.

    Returns:
        For JSON: by key of the source `path` and, of kind `folders`, `files`; empty for images
        that are drawn.
    """
    if source.kind == "synthetic":
        return {}
    origin: dict[str, Any] = {}
    for key in PLACES:
        if key in _READ[source.kind] and getattr(source, key):
            place = Path(getattr(source, key))
            origin[key] = {"path": str(place.resolve())}
            if source.kind == "folders":
                origin[key]["files"] = _states(key, place)
    return origin


def other_places(path: Path, made: Mapping[str, Any], source: Source) -> dict[str, tuple[str, str]]:
    """Compare the folders that records were made of with those of a config.

    Args:
        path: Folder of the records.
        made: The `configuration` of their manifest.
        source: The config's.

    Returns:
        By key, what the records name and what the config names, where these differ; nothing for a
        config without folders or with such as are not there (records are all that is needed, and a
        YAML file may tell of another machine), or where the records do not say.
    """
    if source.kind == "synthetic" or made.get("kind") not in _READ:
        return {}
    origin = _origin(path)
    return {
        key: (str(made.get(key, "")), getattr(source, key))
        for key in PLACES
        if key in _READ[source.kind]
        and (not getattr(source, key) or Path(getattr(source, key)).exists())
        and not _is_same(str(made.get(key, "")), origin.get(key, {}), getattr(source, key))
    }


def other_values(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare what else decides a source, as far as both kinds read it.

    Args:
        made: The `configuration` of a manifest.
        wanted: The same of a config's source.

    Returns:
        By key, the two values, where these differ; without places.
    """
    made = BEFORE | dict(made)
    kinds = (str(made.get("kind", wanted["kind"])), str(wanted["kind"]))
    return {
        key: (made[key], wanted[key])
        for key in _READ[kinds[1]]
        if key in _READ.get(kinds[0], ())
        and key in made
        and key not in PLACES
        and made[key] != wanted[key]
    }


def changed_files(path: Path, source: Source) -> str:
    """Say which of a source's files are not those that records were made of.

    Args:
        path: Folder of the records.
        source: The config's.

    Returns:
        A sentence; empty where all is as it was, where the source is no folder of masks or not
        there, and where the records do not say.
    """
    told = []
    for key, account in _origin(path).items():
        place = Path(getattr(source, key))
        before = account.get("files")
        if source.kind != "folders" or not isinstance(before, dict) or not place.exists():
            continue
        now = _states(key, place)
        for what, names in (
            ("added", now.keys() - before.keys()),
            ("removed", before.keys() - now.keys()),
            (
                "changed",
                {n for n in now.keys() & before.keys() if _is_changed(before[n], now[n])},
            ),
        ):
            if names:
                first = sorted(names)[0]
                more = ", ..." if len(names) > 1 else ""
                told.append(f"{counted(len(names), 'file')} {what} in {place} ({first}{more})")
    return ", ".join(told)


def described_places(made: Mapping[str, Any]) -> str:
    """Name a source as its configuration has it, `source.images=X source.annotations=Y`."""
    places = [f"source.{key}={made[key]}" for key in PLACES if made.get(key)]
    return " ".join(places) or f"source.kind={made.get('kind')}"


def _origin(path: Path) -> dict[str, Any]:
    origin = state_of(path / STAMP_NAME).get("origin")
    return origin if isinstance(origin, dict) else {}


def _is_same(made: str, account: Mapping[str, Any], wanted: str) -> bool:
    """Records may have moved, so that their place is no more; then the same words are the same."""
    if not (made and wanted):
        return made == wanted
    place = Path(str(account.get("path", "")))
    if account.get("path") and place.exists():
        return Path(wanted).resolve() == place
    return made == wanted or Path(wanted).resolve() == Path(made).resolve()


def _states(key: str, place: Path) -> dict[str, list[int]]:
    """Size in bytes and time in ns of what is read of a folder, by the path below it."""
    files = [place / f"{split}.txt" for split in SPLITS]
    try:
        if key != "lists":
            files = list_images(place, recursive=True, suffixes=(*SUFFIXES, *OUTLINES))
    except InputError:  # emptied since
        return {}
    top = place if place.is_dir() else place.parent
    found = {file.relative_to(top).as_posix(): file.stat() for file in files if file.is_file()}
    return {name: [state.st_size, state.st_mtime_ns] for name, state in found.items()}


def _is_changed(before: list[int] | int, now: list[int]) -> bool:
    """Whether a file has another size or is newer: masks that are not compressed keep their size.

    A file that is older was copied with its time, or brought back.
    """
    size, time = before if isinstance(before, list) else (before, now[1])  # of earlier versions
    return now[0] != size or now[1] > time
