"""Files that tell processes apart which would write to the same place."""

from typing import IO, Any

try:
    import fcntl
except ImportError:  # not on Windows; there, processes are not told apart
    fcntl = None  # type: ignore[assignment]


def take(file: IO[Any]) -> bool:
    """Hold an open file until it is closed, or the process ends, however it ends.

    Returns:
        False where another process, or another opening of the file, holds it. True also where the
        system, or the file system, cannot tell.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
