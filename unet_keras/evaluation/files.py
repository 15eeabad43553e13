"""Writing what an evaluation leaves behind: whole or not at all, and not in vain.

A place that takes nothing is noticed before the work begins, and named as the user knows it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unet_keras.errors import InputError
from unet_keras.whole_files import whole_file

MEND = "make it writable, or remove what is in its place"


def demand_writable(folder: Path, *, mend: str = MEND) -> None:
    """Make a folder and write into it, before long work whose result goes there.

    Args:
        folder: Made with its parents if it is missing.
        mend: What the user can do if it cannot be written.

    Raises:
        InputError: It cannot be made or written; names it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error, mend=mend) from None


@contextmanager
def no_empty_folder(folder: Path, *, mend: str = MEND) -> Iterator[None]:
    """Demand a folder that can be written, and take it away again if the work fails before.

    Args:
        folder: As for `demand_writable`; so is `mend`.
        mend: What the user can do if it cannot be written.

    Raises:
        InputError: It cannot be made or written; names it.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        demand_writable(folder, mend=mend)
        yield
    except BaseException:
        for place in made:
            with suppress(OSError):  # it holds something, or was never made
                place.rmdir()
        raise


def unwritable(path: Path, error: Exception, *, mend: str = MEND) -> InputError:
    """The mistake behind an error of the file system: what cannot be written, why, what to do."""
    why = getattr(error, "strerror", None) or getattr(error, "message", None) or error
    return InputError(f"{path} cannot be written ({why}): {mend}")


def write_text(path: Path, text: str) -> None:
    """Write a text beside the file, then put it in its place: whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        text: Written as UTF-8.

    Raises:
        InputError: It cannot be written; names it, not the file beside it.
    """
    try:
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None
