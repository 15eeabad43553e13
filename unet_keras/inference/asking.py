"""Checks of what a user asks of a prediction, before anything that takes long is imported."""

import difflib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_keras.errors import InputError
from unet_keras.inference.results import SOURCES
from unet_keras.sources.base import counted
from unet_keras.sources.listing import list_images

if TYPE_CHECKING:
    from unet_keras.inference.pictures import Picture

logger = logging.getLogger(__name__)

DEFAULT = "default"
GROWTH = "growth.png"
EXCHANGED = {".onnx": "ONNX", ".xml": "OpenVINO"}
_RESULT = re.compile(r"(.+)_((?:mask|labels|probability)(?:\.ome)?|overlay)\.(?:png|tif)")


def demand_model(given: str) -> None:
    """Refuse what cannot be a model by its name and place.

    Args:
        given: A run folder, a `.keras` file, a SavedModel or `default`.

    Raises:
        InputError: There is nothing, or a network in a form that other programs read.
    """
    path = Path(given)
    files = [path, *(sorted(path.glob("model.*")) if path.is_dir() else [])]
    for file in files:
        exported = not (path / "config.yaml").exists() and EXCHANGED.get(file.suffix)
        if exported and file.exists():
            raise InputError(
                f"{file}: {exported} is for other programs and not read here; give the run folder "
                "or its saved_model"
            )
    if path.exists() or given == DEFAULT:
        return
    beside = [*path.parent.iterdir()] if path.parent.is_dir() else []
    names = [DEFAULT, *(str(other) for other in beside)]
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.8)
    mend = f"did you mean {close[0]!r}?" if close else "give a run folder, a file or default"
    raise InputError(f"{given}: there is no such file or folder; {mend}")


def demand_order(model: str, images: Sequence[str]) -> None:
    """Refuse images where the model belongs and the model among them, as where both were swapped.

    Raises:
        InputError: Says which comes first.
    """
    swapped = [given for given in images if given == DEFAULT or _is_model(Path(given))]
    if model != DEFAULT and not _is_model(Path(model)) and swapped:
        rest = [model, *(given for given in images if given != swapped[0])]
        raise InputError(
            f"MODEL comes first, then IMAGES: predict {swapped[0]} {' '.join(rest)} --output DIR"
        )


def _is_model(path: Path) -> bool:
    held = ("config.yaml", "model.keras", "saved_model.pb")
    return path.suffix == ".keras" or any((path / name).exists() for name in held)


def demand_output(given: str, pictures: "Sequence[Picture]") -> None:
    """Refuse an output that is no folder, takes nothing, or is where the images come from.

    Raises:
        InputError: Names the option.
    """
    output = Path(given)
    place = output
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"--output {output}: {place} is a file; give a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"--output {output} cannot be written: {place} does not permit it; make it writable, "
            "or give another"
        )
    if any(picture.path.resolve().parent == output.resolve() for picture in pictures):
        raise InputError(
            f"--output {output} is the folder that the images come from, where results would be "
            f"taken for images and could replace masks: give another, such as {output / 'results'}"
        )


def tell_images_below(folder: Path) -> None:
    """Say that images in the folders of a folder are not segmented, but for results."""
    below = [
        path
        for path in list_images(folder, recursive=True)
        if path.parent != folder and not _RESULT.fullmatch(path.name) and path.name != GROWTH
    ]
    if below:
        logger.warning(
            "left out: %s in folders below %s, such as %s; '%s/**/*.*' takes them",
            counted(len(below), "image"), folder, below[0], folder,
        )  # fmt: skip


def without_results(paths: Sequence[Path]) -> list[Path]:
    """Leave out what an earlier run has written, and say so.

    That is `X_mask.png` and the like in a folder of results, or where X is an image among the
    paths, or has further results among them; and `growth.png` beside its table.

    Args:
        paths: Files.

    Raises:
        InputError: Nothing is left.
    """
    kinds = defaultdict(set)
    written = {path.parent for path in paths if (path.parent / SOURCES).exists()}
    for path in paths:
        if match := _RESULT.fullmatch(path.name):
            kinds[path.parent, match[1]].add(match[2])
    images = {(path.parent, path.stem) for path in paths}
    images = {place for place, found in kinds.items() if len(found) > 1} | images

    def is_result(path: Path) -> bool:
        if path.name == GROWTH:
            return path.with_suffix(".csv").exists()
        match = _RESULT.fullmatch(path.name)
        if match is None or path.parent in written:
            return match is not None
        stack = re.sub(r"-\d+$", "", match[1])  # whose pages are numbered behind its name
        return not images.isdisjoint({(path.parent, match[1]), (path.parent, stack)})

    left_out = [path for path in paths if is_result(path)]
    if left_out and len(left_out) == len(paths):
        raise InputError(
            f"{left_out[0].parent} holds results of an earlier prediction alone, such as "
            f"{left_out[0].name}: give the images"
        )
    if left_out:
        logger.warning(
            "left out: %d results of an earlier prediction among the images, such as %s",
            len(left_out), left_out[0],
        )  # fmt: skip
    return [path for path in paths if path not in set(left_out)]
