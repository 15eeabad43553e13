"""A real server in a process of its own, with a small network, for all tests of this folder."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from unet_keras.model.unet import build_unet

LIMITS = ["--max-megabytes=2", "--max-megapixels=0.3", "--max-images=3", "--max-waiting=40"]


@dataclass(frozen=True)
class Server:
    """A running server: its address, its network, where its output goes."""

    address: str
    model: keras.Model
    log: Path


def start(model: Path, log: Path, *options: str) -> tuple[subprocess.Popen, str]:
    """Start `serve` on a free port; return the process and its address once it listens."""
    command = [sys.executable, "-m", "unet_keras.serve", str(model), "--port=0", *options]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    while "page:" not in log.read_text():
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(log.read_text())
    return process, log.read_text().split("page:")[1].split()[0].rstrip("/")


@pytest.fixture(scope="session")
def network() -> keras.Model:
    keras.utils.set_random_seed(5)
    return build_unet(base_filters=4, depth=2, mean=128.0, scale=60.0)


@pytest.fixture(scope="session")
def server(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    network.save(folder / "tiny.keras")
    process, address = start(folder / "tiny.keras", folder / "log", *LIMITS)
    try:
        assert address.startswith("http://127.0.0.1:"), "others can reach it unasked"
        yield Server(address, network, folder / "log")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, "Ctrl-C is how it is ended, and no failure"
        log = (folder / "log").read_text()
        assert log.endswith("stopped\n")
        assert "Traceback" not in log
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)
