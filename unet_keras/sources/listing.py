"""Which files a folder holds, in the order that people count in."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from unet_keras.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")


def list_images(
    path: str | Path, *, recursive: bool = False, suffixes: tuple[str, ...] = SUFFIXES
) -> list[Path]:
    """List the image files of a folder, `2.png` before `10.png`; a file lists itself.

    Names that begin with a dot are left out: macOS keeps a `._a.png` beside an `a.png`. Folders
    that are links are entered, except for files that are listed without them.

    Args:
        path: The folder, or a file.
        recursive: Whether folders below it are listed too.
        suffixes: Which endings count, in lower case.

    Raises:
        InputError: There is no such folder or file, or no image in it.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"No folder or image at {path}; give the folder that holds the images.")
    files = _without_doubles(path) if recursive else (f for f in path.iterdir() if not f.is_dir())
    found = [file for file in files if _is_listed(file, path, suffixes)]
    if not found:
        raise InputError(
            f"The folder {path} holds no image; files ending in {', '.join(suffixes)} are read."
        )
    return sorted(found, key=natural_order)


def files_below(folder: Path, *, linked: bool = False) -> Iterator[tuple[Path, bool]]:
    """Walk through a folder and those in it, links too unless they lead back.

    Args:
        folder: Where to begin.
        linked: Whether a link has led there.

    Yields:
        Each file, in the order of names, and whether a folder on its way is a link.
    """
    try:
        inside = sorted(folder.iterdir())
    except PermissionError:
        logger.warning("left out: the folder %s does not permit to be read", folder)
        return
    for path in inside:
        if not path.is_dir():
            yield path, linked
        elif not _leads_back(path):
            yield from files_below(path, linked=linked or path.is_symlink())


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it is in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _without_doubles(folder: Path) -> Iterator[Path]:
    """All files below a folder, those behind links once and only where they are not there anyway.

    An image listed twice could be trained on and scored.
    """
    files = [*files_below(folder)]
    yield from (path for path, linked in files if not linked)
    known = {os.path.realpath(path) for path, linked in files if not linked}
    for path, linked in files:
        if linked and (real := os.path.realpath(path)) not in known:
            known.add(real)
            yield path


def _is_listed(file: Path, folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a name below a folder is an image's, and not what systems put beside images."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in suffixes and not hidden


def natural_order(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Key that sorts names with the numbers in them by value, `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in parts if p], path.as_posix()
