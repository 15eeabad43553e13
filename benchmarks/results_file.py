"""Results that experiments keep: a JSON file, each entry written as soon as it is there.

Several processes may write to one file: an entry is added to what is in it by then. A process that
is told to end takes what it started along, so that nothing goes on training unseen.
"""

import fcntl
import json
import signal
import sys
from pathlib import Path
from typing import Any

from unet_keras.errors import InputError

RESULTS = Path(__file__).resolve().parent / "results"


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """All entries by name; none where there is no file yet.

    Raises:
        InputError: It is no JSON.
    """
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); remove it to begin anew") from None


def keep_result(path: Path, name: str, value: dict[str, Any]) -> None:
    """Add an entry, or replace it; killed at any time, the file holds all or none of the change."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_json(path, {**read_results(path), name: value})


def write_json(path: Path, value: Any) -> None:
    """Write a file that is never seen half-written."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def end_with_children() -> None:
    """Have SIGTERM end this process as an error does, and with it what `subprocess.run` waits for.

    What was killed so goes on from its last checkpoint the next time.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
