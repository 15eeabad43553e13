"""Records of a few small synthetic images, made once for all tests that read some."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

from tests.commanding import Run
from unet_keras.records.writer import write_records
from unet_keras.sources.synthetic import synthetic_references

COUNTS = {"train": 4, "val": 2, "test": 2}
SIZE = (160, 192)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs in the background so, and children inherit it: no test of Ctrl-C
    # would see any.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of records with border and distance maps; not to be written to."""
    path = tmp_path_factory.mktemp("records")
    references = synthetic_references(COUNTS, seed=0, size=SIZE)
    write_records(references, path, maps=("border", "distance"), workers=1, shard_images=3)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder; return its exit status and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)
    if "tensorflow" in sys.modules:  # it complains of a missing GPU when it is first used
        sys.modules["tensorflow"].config.list_logical_devices()
        capfd.readouterr()

    def run(command: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", [command, *arguments])
        with pytest.raises(SystemExit) as stop:
            importlib.import_module(f"unet_keras.{command}").main()
        return int(stop.value.code or 0), capfd.readouterr().err.strip()

    return run
