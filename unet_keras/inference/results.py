"""What a folder of predictions holds, and what may be added to it without losing or mixing it.

RESULTS/NAME_mask.png ...   a file of each kind for each picture
RESULTS/counts.csv          of other images: not replaced unasked
RESULTS/predictions.json    likewise
RESULTS/NAME_rois.zip       corrected in ImageJ: not replaced
RESULTS/settings.json       what all of it was made with: networks, rules, version
RESULTS/.sources.json       which image each name stands for: a second plate's do not replace them
"""

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_keras.errors import InputError
from unet_keras.records.parts import state_of
from unet_keras.whole_files import whole_file

if TYPE_CHECKING:
    from unet_keras.inference.loading import Predictor
    from unet_keras.inference.pictures import Picture
    from unet_keras.inference.segmenting import Segmenter

SOURCES = ".sources.json"
SETTINGS = "settings.json"
REPLACING = "replacing"  # in it: earlier settings, of which some results may be there still
# What a picture's files are called, behind its name, and those of all pictures.
ENDINGS = {
    "probability": ("_probability.tif", "_probability.ome.tif"),
    "mask": ("_mask.png", "_mask.ome.tif"),
    "labels": ("_labels.tif", "_labels.ome.tif"),
    "overlay": ("_overlay.png",),
    "rois": ("_rois.zip",),
}
TABLES = {"csv": "counts.csv", "coco": "predictions.json"}
# What says where things are and not how results come about.
_NOT_DECISIVE = ("write", "unet_keras")


def demand_kept(output: Path, pictures: "Sequence[Picture]", write: Collection[str]) -> None:
    """Refuse to replace what the pictures that are asked for now do not give again.

    Args:
        output: Folder of the results.
        pictures: What is asked for.
        write: Which of `writing.OUTPUTS`.

    Raises:
        InputError: Rows of other images, results of others of the same names, or corrections would
            be lost.
    """
    _demand_kept_rows(output, pictures, write)
    _demand_same_sources(output, pictures)
    _demand_kept_corrections(output, pictures, write)


def _demand_kept_rows(output: Path, pictures: "Sequence[Picture]", write: Collection[str]) -> None:
    """Refuse to replace tables that tell of images beyond those that are asked for now."""
    asked_for = {picture.title for picture in pictures}
    for kind, name, images_in in (
        ("csv", "counts.csv", _images_in_table), ("csv", "cells.csv", _none_of_table),
        ("coco", "predictions.json", _images_in_coco),
    ):  # fmt: skip
        path = output / name
        if kind not in write or not path.exists():
            continue
        try:
            earlier = images_in(path)
        except (KeyError, TypeError, ValueError, csv.Error):
            raise InputError(
                f"{path} is not of this command and would be replaced: give another --output"
            ) from None
        if lost := earlier - asked_for:
            raise InputError(
                f"{path} of an earlier run has {len(lost)} images that are not among these, such "
                f"as {min(lost)}, and would be replaced: give another --output to keep it, or "
                "remove it"
            )


def _demand_same_sources(output: Path, pictures: "Sequence[Picture]") -> None:
    """Refuse to replace the results of other images of the same names, as plates have them."""
    known = state_of(output / SOURCES)
    for picture in pictures:
        earlier = Path(known.get(picture.name, picture.path))
        if earlier.resolve() != picture.path.resolve() and earlier.exists():
            raise InputError(
                f"{output} holds results of {earlier}, which those of {picture.path} would "
                "replace: give another --output, or remove it"
            )


def keep_sources(output: Path, pictures: "Sequence[Picture]") -> None:
    """Note which images the results in a folder are of, before any of them is written."""
    known = state_of(output / SOURCES) | {one.name: str(one.path.resolve()) for one in pictures}
    with whole_file(output / SOURCES) as partial:
        partial.write_text(json.dumps(known), encoding="utf-8")


def _demand_kept_corrections(
    output: Path, pictures: "Sequence[Picture]", write: Collection[str]
) -> None:
    """Refuse to replace outlines, masks and label maps that somebody has corrected."""
    from unet_keras.inference.writing import is_corrected

    # Before settings were noted, masks and label maps did not say what has written them.
    kinds = ["rois", *(("mask", "labels") if (output / SETTINGS).exists() else ())]
    kinds = [kind for kind in kinds if kind in write]
    endings = [ending for kind in kinds for ending in ENDINGS[kind]]
    for path in [output / (one.name + ending) for one in pictures for ending in endings]:
        if path.exists() and is_corrected(path):
            raise InputError(
                f"{path} was changed since it was written, and would be replaced: move it, or give "
                "another --output"
            )


def described(predictors: "Sequence[Predictor]", model: "Segmenter") -> dict[str, Any]:
    """Say what decides the results of a model and its networks, for `settings.json`."""
    from unet_keras.inference.scored import network_digest

    networks = [{"path": str(one.path), "sha256": network_digest(one.path)} for one in predictors]
    return {
        "unet_keras": version("unet_keras"),
        "networks": networks,
        **asdict(model.rules),
        "normalize": predictors[0].normalized_to is not None,
        "pixel_size": model.pixel_size,
        "group_pattern": model.group_pattern,
    }


def demand_same_settings(
    output: Path, made_with: Mapping[str, Any], pictures: "Sequence[Picture]"
) -> None:
    """Refuse to leave results beside others that were made otherwise: nobody could tell them apart.

    Args:
        output: Folder of the results.
        made_with: What decides the new ones, and `write`, the kinds of them.
        pictures: What is asked for.

    Raises:
        InputError: Says what would stay, and what differs.
    """
    # Of a run that was stopped, what it was to replace may be there still.
    for number, earlier in enumerate(_noted(output)):
        if earlier and (differing := _differences(earlier, made_with)):
            told = f"{'made' if number == 0 else 'some of it made'} with {differing}"
            _demand_none_left(output, earlier, told, made_with, pictures)


def _demand_none_left(
    output: Path,
    earlier: Mapping[str, Any],
    told: str,
    made_with: Mapping[str, Any],
    pictures: "Sequence[Picture]",
) -> None:
    left = set(earlier.get("write", ())) - set(made_with["write"])
    kinds = [kind for kind in (*ENDINGS, *TABLES) if kind in left and _is_there(output, kind)]
    asked_for = {picture.name for picture in pictures}
    others = [
        name
        for name in state_of(output / SOURCES)
        if name not in asked_for and _has_files(output, name)
    ]
    if kinds or others:
        what = f"{', '.join(kinds)} of an earlier run" if kinds else f"results of {others[0]}"
        mend = f"write them anew (--write {','.join([*made_with['write'], *kinds])})"
        raise InputError(
            f"{output} holds {what}, {told}: {mend if kinds else 'remove them'}, or "
            "give another --output"
        )


def has_files(output: Path, picture: "Picture") -> bool:
    """Whether a folder holds results of a picture."""
    return _has_files(output, picture.name)


def keep_settings(output: Path, made_with: Mapping[str, Any]) -> None:
    """Note what results are made with, before any of them is written, and what they replace."""
    earlier, *replacing = _noted(output)
    kinds = set(made_with["write"])
    if not _differences(earlier, made_with):
        kinds |= set(earlier.get("write", ()))
    replaced = [one for one in (earlier, *replacing) if one and _differences(one, made_with)]
    _write_settings(output, {**made_with, "write": sorted(kinds), REPLACING: replaced})


def _noted(output: Path) -> list[dict[str, Any]]:
    """The settings of results, empty where none are noted, and those of what they replace."""
    noted = state_of(output / SETTINGS)
    replacing = noted.pop(REPLACING, [])
    held = replacing if isinstance(replacing, list) else []
    return [noted, *(one for one in held if isinstance(one, dict))]


def is_replacing(output: Path) -> bool:
    """Whether results made with other settings may be there still."""
    return REPLACING in state_of(output / SETTINGS)


def settle_settings(output: Path) -> None:
    """Note that all results are made with the same settings."""
    _write_settings(output, state_of(output / SETTINGS) | {REPLACING: []})


def _write_settings(output: Path, values: Mapping[str, Any]) -> None:
    kept = {key: value for key, value in values.items() if key != REPLACING or value}
    with whole_file(output / SETTINGS) as partial:
        partial.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


class Notes:
    """What a folder of results says of them, to be put back where nothing came of a run."""

    def __init__(self, output: Path) -> None:
        files = (output / SOURCES, output / SETTINGS)
        self._kept = {file: file.read_bytes() if file.exists() else None for file in files}

    def put_back(self) -> None:
        """Make them what they were."""
        for file, content in self._kept.items():
            if content is None:
                file.unlink(missing_ok=True)
                continue
            with whole_file(file) as partial:
                partial.write_bytes(content)


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, as text: `threshold 0.5 (now 0.3)`; empty where nothing does."""
    told = []
    for key, value in now.items():
        before = earlier.get(key)
        if key == "networks":
            if [one["sha256"] for one in before or ()] != [one["sha256"] for one in value]:
                told.append("another network")
        elif key not in _NOT_DECISIVE and before != value:
            told.append(f"{key} {before} (now {value})")
    return ", ".join(told)


def _has_files(output: Path, name: str) -> bool:
    endings = (ending for kind in ENDINGS.values() for ending in kind)
    return any((output / (name + ending)).exists() for ending in endings)


def _is_there(output: Path, kind: str) -> bool:
    """Whether there are results of a kind, of whatever picture."""
    if kind in TABLES:
        return (output / TABLES[kind]).exists()
    return any(any(output.glob(f"*{ending}")) for ending in ENDINGS[kind])


def _images_in_table(path: Path) -> set[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image"] for row in csv.DictReader(file)}


def _none_of_table(path: Path) -> set[str]:
    """See that the long table says which image a row is of; which they are, the short one tells."""
    with path.open(newline="", encoding="utf-8") as file:
        if "image" not in (csv.DictReader(file).fieldnames or ()):
            raise KeyError("image")
    return set()


def _images_in_coco(path: Path) -> set[str]:
    with path.open(encoding="utf-8") as file:
        return {str(image["file_name"]) for image in json.load(file)["images"]}
