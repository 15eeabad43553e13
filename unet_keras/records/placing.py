"""The folder a conversion works in, and the move of what it made into place.

RECORDS/.conversion/       parts, complete shards and the new manifest, until all is complete
RECORDS/*.tfrecord         moved here then, and only then
RECORDS/manifest.json      moved last: where it is, everything it names is
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unet_keras.errors import InputError
from unet_keras.locking import hold_folder, take
from unet_keras.records.manifest import MANIFEST_NAME, STAMP_NAME, WORK_FOLDER, read_manifest
from unet_keras.records.parts import UnfinishedError

LOCK_NAME = "lock"
SOURCE_NAME = "source.json"  # what an unfinished conversion was asked for with
REPORT_NAMES = ("report.html", "report.json")
_SHARD_NAME = re.compile(r"(train|val|test)-\d{5}-of-\d{5}\.tfrecord")


def demand_no_others(path: Path) -> None:
    """Refuse a folder in which files of the names that records have are not of records.

    They would be replaced.

    Raises:
        InputError: Names the first.
    """
    if (path / STAMP_NAME).exists() or (path / WORK_FOLDER).exists():
        return
    is_run = (path / "config.yaml").exists()  # which keeps a copy of the manifest
    with suppress(InputError):
        if not is_run and read_manifest(path):
            return
    names = {MANIFEST_NAME, *REPORT_NAMES}
    files = sorted(path.iterdir()) if path.is_dir() else []
    others = [file for file in files if file.name in names or _SHARD_NAME.fullmatch(file.name)]
    if others:
        raise InputError(
            f"records.path={path} holds {others[0].name}, which is not of records and would be "
            "replaced: give a folder of its own"
        )


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Keep records from being replaced while they are read.

    Raises:
        InputError: They are being replaced at this moment.
    """
    with hold_folder(path, shared=True) as held:
        if not held:
            raise InputError(
                f"{path} is being replaced by another process: wait for it to end, and start this "
                "again"
            )
        yield


def publish(path: Path, work: Path) -> None:
    """Move complete records into place, if there are any; interrupted, it can be called again.

    Raises:
        UnfinishedError: A training or an evaluation reads the records that are there.
    """
    if not (work / MANIFEST_NAME).is_file():
        return
    with hold_folder(path) as alone:
        if not alone:
            raise UnfinishedError(
                f"{path} is being read, as by a training in another process; wait for it to end "
                "and start this again, which keeps what is converted, or give another records.path."
            )
        _move(path, work)


def _move(path: Path, work: Path) -> None:
    manifest = read_manifest(work)
    # From here on, nothing claims to be complete, and no report is about other records.
    for name in (MANIFEST_NAME, STAMP_NAME, *REPORT_NAMES):
        (path / name).unlink(missing_ok=True)
    named = {shard.file for shard in manifest.shards}
    for file in path.iterdir():
        if _SHARD_NAME.fullmatch(file.name) and file.name not in named:
            file.unlink()
    for name in (*named, STAMP_NAME, MANIFEST_NAME):
        if (work / name).is_file():
            (work / name).replace(path / name)


@contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """Hold the folder in which a conversion works; remove it unless it can be continued.

    Finished parts stay whatever ended the conversion: one damaged image among many thousands does
    not cost what was made of the others. Where there are none, no new folder is left.

    Raises:
        InputError: The folder cannot be written to.
        UnfinishedError: Another process is converting into it.
    """
    work = path / WORK_FOLDER
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / LOCK_NAME).open("w")
    except OSError as error:
        raise InputError(
            f"records.path={path} cannot be written to ({error.strerror}); give another folder."
        ) from error
    with lock:
        if not take(lock):
            raise UnfinishedError(
                f"Another process is converting into {path}; wait for it to end, or give another "
                "records.path."
            )
        try:
            yield work
        except InputError as error:
            if not isinstance(error, UnfinishedError) and not _is_begun(work):
                shutil.rmtree(work, ignore_errors=True)
                for folder in made:
                    with suppress(OSError):  # not empty: it is somebody's
                        folder.rmdir()
            raise
        shutil.rmtree(work, ignore_errors=True)


def _is_begun(work: Path) -> bool:
    return any(any(work.glob(pattern)) for pattern in ("*.part", "*.tfrecord"))
