"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the file's place when all went well.

    Raises:
        OSError: As the block; names the file instead of the path, and where it names none.
    """
    # One name for all tries, so that what a kill leaves is overwritten.
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename in (None, str(partial)):  # none where a disk is full
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)
