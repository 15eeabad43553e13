"""LIVECell (Edlund et al. 2021) from where its authors publish it.

URL/annotations/LIVECell/livecell_coco_{train,val,test}.json  ->  ANNOTATIONS/
URL/images.zip, unpacked                                      ->  IMAGES/

What is there already is not fetched again.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from unet_keras.errors import InputError
from unet_keras.sources.base import SPLITS
from unet_keras.sources.fetching import Progress, fetch
from unet_keras.sources.listing import SUFFIXES
from unet_keras.sources.unpacking import UnsoundArchiveError, unpack_images

logger = logging.getLogger(__name__)

ARCHIVE = "images.zip"
ANNOTATIONS = {split: f"livecell_coco_{split}.json" for split in SPLITS}
LICENSE = "LIVECell (Edlund et al. 2021, Nature Methods 18) is licensed under CC BY-NC 4.0"


def download_livecell(
    images: Path,
    annotations: Path,
    *,
    url: str,
    sha256: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    wait_seconds: float = 1.0,
) -> None:
    """Fetch what of LIVECell is not there.

    Args:
        images: Folder for the images. One that holds an image, at any depth, is taken for
            complete, unless it was this function that was interrupted.
        annotations: Folder for the three JSON files.
        url: The folder on the server.
        sha256: What a file must have, hexadecimal, by its name on the server.
        progress: Told about every piece that arrives or is unpacked.
        wait_seconds: As in `fetch`.

    Raises:
        InputError: As in `fetch` and `unpack_images`, or `sha256` names no file of LIVECell.
    """
    wanted = dict(sha256 or {})
    unknown = sorted(set(wanted) - {ARCHIVE, *ANNOTATIONS.values()})
    if unknown:
        raise InputError(
            f"source.sha256 names {unknown[0]}, but the files are {ARCHIVE} and "
            f"{', '.join(ANNOTATIONS.values())}."
        )
    base = url.rstrip("/")
    missing = [name for name in ANNOTATIONS.values() if not any(annotations.glob(f"**/{name}"))]
    archive = images / f".{ARCHIVE}"  # removed last: where it is, unpacking was interrupted
    complete = _has_image(images) and not archive.is_file()
    if missing or not complete:
        logger.info("%s; fetching it from %s", LICENSE, base)
    for name in missing:
        fetch(
            f"{base}/annotations/LIVECell/{name}",
            annotations / name,
            sha256=wanted.get(name, ""),
            progress=progress,
            wait_seconds=wait_seconds,
        )
    if complete:
        return
    if not archive.is_file():
        fetch(
            f"{base}/{ARCHIVE}",
            archive,
            sha256=wanted.get(ARCHIVE, ""),
            progress=progress,
            wait_seconds=wait_seconds,
        )
    _unpack(archive, images, progress)


def _unpack(archive: Path, images: Path, progress: Progress | None) -> None:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(f"unpacking {ARCHIVE}", done, total)

    try:
        count = unpack_images(archive, images, progress=report)
    except UnsoundArchiveError:
        archive.unlink()  # another try must not meet it again
        raise
    archive.unlink()
    logger.info("%s: %d images", images, count)


def _has_image(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.glob("**/*"))
