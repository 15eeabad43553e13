"""Holds on files and folders, which tell processes apart that would disturb each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not on Windows; there, processes are not told apart
    fcntl = None  # type: ignore[assignment]


def take(file: IO[Any] | int, *, shared: bool = False) -> bool:
    """Hold an open file until it is closed, or the process ends, however it ends.

    Args:
        file: Or its descriptor.
        shared: Whether others may hold it in the same way.

    Returns:
        False where another process, or another opening of the file, holds it. True also where the
        system, or the file system, cannot tell.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def take_place(file: IO[Any], path: Path) -> bool:
    """Hold an open file as `take` does, if no holder has removed or moved it meanwhile."""
    try:
        return take(file) and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:  # there is none any more
        return False


@contextmanager
def hold_folder(folder: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold a folder, as `take` holds a file; nothing is written for it.

    Yields:
        What `take` returns; True for a folder that is not there.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield True
        return
    try:
        yield take(descriptor, shared=shared)
    finally:
        os.close(descriptor)
