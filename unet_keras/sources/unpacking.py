"""The images of a zip archive that nobody vouches for, unpacked so that nothing else can happen.

Names decide where a zip archive's files go, and its headers how large they get: both are checked
before the first byte is written. Only images are taken out; they appear when all of them are there.
"""

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from unet_keras.errors import InputError
from unet_keras.sources.listing import SUFFIXES

MOST_FILES = 100_000
MOST_BYTES = 20 * 10**9  # of all files together; LIVECell has 2 GB
MOST_EXPANSION = 100  # times the archive's own size: images hardly shrink
_CHUNK_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class UnsoundArchiveError(InputError):
    """An archive that is damaged, or that no data set of images looks like."""

    def __init__(self, archive: Path, reason: object) -> None:
        super().__init__(
            f"{archive} was not unpacked: {reason}. Check where it came from, and fetch it again."
        )


def unpack_images(
    archive: Path, folder: Path, *, progress: Callable[[int, int], object] | None = None
) -> int:
    """Unpack the images of a zip archive into a folder.

    A single folder that holds everything in the archive is left out.

    Args:
        archive: The zip file.
        folder: Where to; images of the same names are replaced, all else in it stays.
        progress: Called with the bytes written and the bytes there will be.

    Returns:
        The number of images.

    Raises:
        UnsoundArchiveError: The archive is damaged or holds no image; one of its names would
            leave the folder, or is a link; it is larger than any data set of this kind.
        InputError: The disk is full. In both cases nothing was unpacked.
    """
    room = folder / ".unpacking"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(room, ignore_errors=True)
        with zipfile.ZipFile(archive) as opened:
            members = _checked(archive, opened.infolist())
            _demand_room(folder, members)
            _extract(opened, members, room, progress or (lambda done, total: None))
        for name in members:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (room / name).replace(folder / name)
    except InputError:
        raise
    except _DAMAGE as error:
        raise UnsoundArchiveError(archive, f"it is damaged ({error})") from error
    except OSError as error:
        raise InputError(
            f"{archive} cannot be unpacked into {folder} ({error.strerror or error}); make room "
            "there and run the same command again."
        ) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return len(members)


def _checked(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The images by the path they get, after every member was found harmless."""
    if len(infos) > MOST_FILES:
        raise UnsoundArchiveError(archive, f"it has {len(infos)} members, more than {MOST_FILES}")
    size = sum(info.file_size for info in infos)
    if size > min(MOST_BYTES, MOST_EXPANSION * max(archive.stat().st_size, 10_000)):
        raise UnsoundArchiveError(archive, f"it would grow to {size / 1e9:.1f} GB")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _check_member(archive, info)
        path = PurePosixPath(info.filename)
        if info.is_dir() or path.suffix.lower() not in SUFFIXES or path.parts[0] == "__MACOSX":
            continue
        if str(path) in members:
            raise UnsoundArchiveError(archive, f"it has two files {str(path)!r}")
        members[str(path)] = info
    if not members:
        raise UnsoundArchiveError(archive, f"it holds no image among {len(infos)} members")
    tops = {PurePosixPath(name).parts[0] for name in members}
    if len(tops) == 1 and not any(name in tops for name in members):
        members = {name.partition("/")[2]: info for name, info in members.items()}
    return members


def _check_member(archive: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.split("/")
    if (
        not name
        or "\\" in name
        or "\0" in info.orig_filename
        or name.startswith("/")
        or ".." in parts
        or re.match("[A-Za-z]:", name)
    ):
        raise UnsoundArchiveError(archive, f"the name {name!r} could lead out of its folder")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsoundArchiveError(archive, f"{name!r} is a link or a device")
    plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if info.flag_bits & 1 or not plain:
        raise UnsoundArchiveError(archive, f"{name!r} is encrypted or compressed in a rare way")


def _demand_room(folder: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    needed = sum(info.file_size for info in members.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} needs {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free on its "
            "disk; make room, or give another folder."
        )


def _extract(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    room: Path,
    report: Callable[[int, int], object],
) -> None:
    total = sum(info.file_size for info in members.values())
    done = 0
    for name, info in members.items():
        target = room / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if done > total:
                    raise zipfile.BadZipFile(f"{name} is larger than it says")
        report(done, total)
