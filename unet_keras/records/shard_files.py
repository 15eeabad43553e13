"""One file of records: what the manifest says of it, and whether it is still as it was written."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_keras.records.framing import FramingError, read_frames
from unet_keras.records.schema import read_features, required_features


@dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: Its name, in the manifest's folder.
        images: Number of records.
        bytes: Its size in bytes.
        sha256: Of its content, hexadecimal.
    """

    file: str
    images: int
    bytes: int
    sha256: str


def problems_of(path: Path, shard: Shard, maps: Sequence[str]) -> Iterator[str]:
    """Check a shard's digest and number of records, and every record's checksums and schema.

    Args:
        path: The folder of the records.
        shard: What the manifest says of the file.
        maps: Names of the maps that each record has to hold.

    Yields:
        A line for each problem that names the file, and the record where it is in one.
    """
    file = path / shard.file
    if not file.is_file():
        yield f"{file} is missing"
        return
    wanted = required_features(maps)
    count, sound = 0, True
    try:
        for data in read_frames(file):
            missing = wanted - _feature_names(data)
            if missing:
                yield f"{file}: record {count} has no {', '.join(sorted(missing))}"
                sound = False
            count += 1
    except FramingError as error:
        yield f"{file}: {error}"
        return
    except OSError as error:
        yield f"{file} cannot be read ({error.strerror})"
        return
    if count != shard.images:
        yield f"{file} has {count} records; manifest.json says {shard.images}"
    elif sound and sha256_of(file) != shard.sha256:
        yield f"{file} is not the file that was written: its SHA-256 differs"


def has_its_size(path: Path, shard: Shard) -> bool:
    """Whether a shard is there and as long as it was written, which takes no time to see."""
    file = path / shard.file
    return file.is_file() and file.stat().st_size == shard.bytes


def has_its_content(path: Path, shard: Shard) -> bool:
    """Whether a shard is there with the very bytes that were written; it is read for that."""
    try:
        return has_its_size(path, shard) and sha256_of(path / shard.file) == shard.sha256
    except OSError:
        return False


def _feature_names(data: bytes) -> set[str]:
    try:
        return set(read_features(data))
    except ValueError:
        return set()


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
