"""One file from a web server, whole and checked, however often the connection is cut.

PATH.part        what has arrived; the next attempt, or the next run, goes on behind it
PATH.part.json   which version of which file that is, as the server names it
PATH             appears when all has arrived and every checksum holds
"""

import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from functools import partial
from io import FileIO
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from unet_keras.errors import InputError
from unet_keras.locking import take_place

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], object]
"""Called with a file's name, the bytes that are there and the bytes there will be."""

ATTEMPTS = 5  # without a single new byte, before giving up
_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 1 << 20
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that may pass


class _CutOffError(Exception):
    """The connection ended before the file did; worth another attempt."""


@dataclass(frozen=True)
class _Version:
    """What a server says of a file.

    Attributes:
        url: Where it is.
        length: In bytes.
        validator: Changes when the file does; empty where the server gives none.
        md5: Hexadecimal, empty where the server states none.
    """

    url: str
    length: int
    validator: str
    md5: str


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str = "",
    progress: Progress | None = None,
    wait_seconds: float = 1.0,
) -> None:
    """Download a file, going on where an earlier attempt was cut off.

    The length and, where the server is Amazon S3 and the file was uploaded in one part, its MD5
    are held against what arrived.

    Args:
        url: http or https.
        path: Where to; its folder is made.
        sha256: What the file must have, hexadecimal; empty where it is not known.
        progress: Told about every piece that arrives.
        wait_seconds: Before the second attempt; doubled before each further one.

    Raises:
        InputError: The server does not have the file or cannot be reached, the disk is full, a
            checksum differs, or another process is downloading the file. What has arrived is kept,
            unless a checksum differs.
    """
    report = progress or (lambda name, done, total: None)
    _writing(path, lambda: path.parent.mkdir(parents=True, exist_ok=True))
    with _open_part(path) as part:
        failures = 0
        while True:
            before = part.seek(0, os.SEEK_END)
            try:
                version = _receive(url, path, part, report)
                break
            except (_CutOffError, URLError, http.client.HTTPException, OSError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            after = part.seek(0, os.SEEK_END)
            failures = 0 if after > before else failures + 1
            if failures == ATTEMPTS:
                raise InputError(
                    f"{url} could not be downloaded ({reason}); {after} bytes are kept: run the "
                    "same command again, it continues."
                )
            logger.info("%s: %s; trying again", url, reason)
            time.sleep(wait_seconds * 2 ** (failures - 1) if failures else 0)
        _writing(path, lambda: os.fsync(part.fileno()))
        _check(path, part, version, sha256)
        _part_of(path).replace(path)
        _account_of(path).unlink(missing_ok=True)


def _receive(url: str, path: Path, part: FileIO, report: Progress) -> _Version:
    """Receive what is missing; raise where not all of it comes."""
    known = _read_account(path)
    offset = part.seek(0, os.SEEK_END)
    if known is None or known.url != url or not known.validator or offset > known.length:
        known, offset = None, 0
    if known is not None and offset == known.length:
        return known
    headers = {"User-Agent": "unet_keras", "Accept-Encoding": "identity"}
    if known is not None and offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known.validator}
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except (ValueError, http.client.InvalidURL) as error:  # UnicodeError too
        raise InputError(f"source.url={url} is no address of a server: {error}") from None
    except HTTPError as error:
        with error:
            if error.code == 416:  # what is there is no part of what the server has now
                part.truncate(0)
            elif error.code not in _TRANSIENT:
                raise InputError(
                    f"The server answers {error.code} {error.reason} for {url}; check source.url."
                ) from error
            raise _CutOffError(f"the server answers {error.code} {error.reason}") from error
    with response:
        version, start = _version(url, response.status, response.headers, known)
        if start not in (0, offset):
            part.truncate(0)
            raise _CutOffError(f"the server sends another piece than the one from byte {offset} on")
        part.truncate(start)
        part.seek(start)
        _demand_room(path, version.length - start)
        _writing(path, lambda: _account_of(path).write_text(json.dumps(asdict(version))))
        while chunk := response.read(_CHUNK_BYTES):
            _writing(path, partial(_write_all, part, chunk))
            report(path.name.removeprefix("."), part.tell(), version.length)
        if part.tell() != version.length:
            raise _CutOffError(f"cut off at {part.tell()} of {version.length} bytes")
        return version


def _version(
    url: str, status: int, headers: Message, known: _Version | None
) -> tuple[_Version, int]:
    """Read which version a response is of, and at which byte it begins."""
    if status == 206:
        if known is None:
            raise _CutOffError(f"the server sends a piece of {url} that was not asked for")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        if match and int(match[2]) == known.length:
            return known, int(match[1])
        return known, -1
    length = headers.get("Content-Length", "")
    if not length.isdecimal():
        raise InputError(
            f"The server does not say how long {url} is, so that nobody could tell whether it "
            "is complete; download it with another program."
        )
    etag = headers.get("ETag", "")
    # Only a strong tag stands for equal bytes (RFC 9110, 8.8.3).
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    single = re.fullmatch(r'"([0-9a-f]{32})"', etag)
    is_s3 = "AmazonS3" in headers.get("Server", "")
    return _Version(url, int(length), validator, single[1] if single and is_s3 else ""), 0


def _check(path: Path, part: FileIO, version: _Version, sha256: str) -> None:
    """Hold what arrived against the checksums; remove it where one differs."""
    part.seek(0)
    found = {"SHA-256": hashlib.sha256(), "MD5": hashlib.md5(usedforsecurity=False)}
    while chunk := part.read(_CHUNK_BYTES):
        for digest in found.values():
            digest.update(chunk)
    wanted = {"MD5": (version.md5, "the server"), "SHA-256": (sha256.lower(), "source.sha256")}
    for name, (expected, origin) in wanted.items():
        if expected and found[name].hexdigest() != expected:
            _part_of(path).unlink()
            _account_of(path).unlink(missing_ok=True)
            raise InputError(
                f"{version.url} arrived with the {name} {found[name].hexdigest()}, but {origin} "
                f"says {expected}: it was changed on the way, or is another version. It was "
                "removed; run the same command again, or correct source.sha256."
            )
    logger.info("%s: %d bytes, SHA-256 %s", path, version.length, found["SHA-256"].hexdigest())


@contextmanager
def _open_part(path: Path) -> Iterator[FileIO]:
    """Hold the part file, alone."""
    part = _part_of(path)
    _writing(path, partial(part.touch, exist_ok=True))
    with FileIO(part, "r+") as file:
        if not take_place(file, part):
            raise InputError(f"Another process is downloading {path}; wait for it to end.")
        yield file


def _writing(path: Path, action: Callable[[], object]) -> None:
    """Do something to the disk, whose errors are not the network's."""
    try:
        action()
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); make room, or give another folder, and "
            "run the same command again: what has arrived is kept."
        ) from error


def _write_all(part: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[part.write(rest) :]


def _demand_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"{path} needs {needed / 1e9:.2f} GB more, but only {free / 1e9:.2f} GB are free on "
            "its disk; make room, or give another folder."
        )


def _read_account(path: Path) -> _Version | None:
    try:
        return _Version(**json.loads(_account_of(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _account_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")
