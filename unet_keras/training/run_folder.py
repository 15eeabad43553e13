"""A run's folder: made whole, claimed by one config, used by one process at a time."""

import errno
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from unet_keras.errors import InputError
from unet_keras.locking import take

_LIBRARIES = ("unet_keras", "tensorflow", "keras", "numpy")


def make_run_folder(run: Path, manifest: Path, save_config: Callable[[Path], None]) -> None:
    """Make a new run's folder with its config, versions and the records' manifest.

    It is prepared under another name, so that a folder of this name is complete.

    Args:
        run: The folder; may exist if it is empty.
        manifest: The records' manifest, which is copied.
        save_config: Writes the config to a path.

    Raises:
        InputError: Something else is there.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise InputError(
            f"train.run_dir={run} exists and is no run folder (it has no config.yaml): "
            "give another train.run_dir"
        )
    run = run.resolve()  # what a link leads to takes files, and the link itself no folder
    scratch = run.with_name(f"{run.name}.unfinished-{os.getpid()}")
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "versions.json").write_text(json.dumps(versions(), indent=2), encoding="utf-8")
        shutil.copyfile(manifest, scratch / "manifest.json")
        save_config(scratch / "config.yaml")
        scratch.rename(run)
    except OSError as error:
        if not (run / "config.yaml").exists():  # another process was not faster
            if error.errno == errno.EBUSY:
                raise InputError(
                    f"train.run_dir={run} is where a disk is mounted: give a folder in it"
                ) from None
            # A full disk does not say of which file.
            raise OSError(error.errno, error.strerror, str(run)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a run's figures."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def changed_versions(run: Path) -> list[str]:
    """Return a line for each library that is not the one the run was begun with."""
    try:
        then = dict(json.loads((run / "versions.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return ["versions.json is missing or damaged: the versions it was begun with are unknown"]
    return [
        f"begun with another version: {name} {then[name]} -> {now}"
        for name, now in versions().items()
        if then.get(name, now) != now
    ]


@contextmanager
def sole_user(run: Path) -> Iterator[None]:
    """Hold a run's folder against a second process that would write into it.

    Raises:
        InputError: Another process holds it.
    """
    with (run / ".lock").open("w") as lock:
        if not take(lock):
            raise InputError(
                f"{run} is being trained by another process: wait for it, or give another "
                "train.run_dir"
            )
        yield
