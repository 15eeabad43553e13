"""TFRecord files without TensorFlow: each record between its length and two checksums.

    uint64 length | uint32 masked CRC-32C of the length | data | uint32 masked CRC-32C of the data

All numbers are little-endian. Files of this kind can be joined end to end.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class FramingError(ValueError):
    """A record that is not as it was written; the message says which and where."""


def frame(data: bytes) -> bytes:
    """Put a record between its length and checksums, which take 16 bytes."""
    length = struct.pack("<Q", len(data))
    return length + _FOOTER.pack(_masked(length)) + data + _FOOTER.pack(_masked(data))


def read_frames(path: Path) -> Iterator[bytes]:
    """Yield each record of a file, checked.

    Raises:
        FramingError: A record is cut off or fails a checksum; what follows it cannot be trusted.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        number = 0
        while file.tell() < size:
            yield _read_frame(file, size, f"record {number} at byte {file.tell()}")
            number += 1


def _read_frame(file: BinaryIO, size: int, name: str) -> bytes:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise FramingError(f"{name} is cut off")
    length, checksum = _HEADER.unpack(header)
    if checksum != _masked(header[:8]):
        raise FramingError(f"{name} fails the checksum of its length")
    if file.tell() + length + _FOOTER.size > size:
        raise FramingError(f"{name} is cut off")
    data = file.read(length)
    if _FOOTER.unpack(file.read(_FOOTER.size))[0] != _masked(data):
        raise FramingError(f"{name} fails its checksum")
    return data


def _masked(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord does, so that checksums of checksums stay good."""
    checksum = int(google_crc32c.value(data))
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
