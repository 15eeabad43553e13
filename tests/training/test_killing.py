"""Killed from outside at any moment, the same command goes on and ends with the same bits."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import differing, outcome, points, small_config
from unet_keras import config as configuration
from unet_keras.training import fit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def expected(
    records: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], dict[str, object]]:
    """What a run on real data ends with that nothing killed, and what TensorBoard shows of it."""
    run = tmp_path_factory.mktemp("expected") / "run"
    fit.train(small_config(records, run))
    return outcome(run), board(run)


def board(run: Path) -> dict[str, object]:
    """Everything on TensorBoard; of what no two runs share (speed, paths, start), the steps."""
    found: dict[str, object] = {}
    for side in (".", "train", "validation"):
        for tag, values in points(run / "tensorboard" / side).items():
            shared = not tag.startswith(("speed/", "_hparams_/", "config"))
            found[f"{side} {tag}"] = values if shared else [step for step, _ in values]
    return found


def start(config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "unet_keras.train", str(config)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(config: Path, moment: Callable[[], bool]) -> bool:
    """Start training and kill it at a moment; False if it was done before."""
    with start(config) as process:
        while process.poll() is None:
            if moment():
                process.kill()
                return True
            time.sleep(0.0005)
    assert process.returncode == 0
    return False


def check_end(
    config: Path, run: Path, expected: tuple[dict[str, bytes], dict[str, object]]
) -> None:
    with start(config) as process:
        assert process.wait() == 0
    assert differing(outcome(run), expected[0]) == []
    assert board(run) == expected[1], "points on TensorBoard are missing or twice there"


@pytest.mark.slow
def test_killed_while_it_writes_a_checkpoint_and_in_the_midst_of_an_epoch(
    records: Path, tmp_path: Path, expected: tuple[dict[str, bytes], dict[str, object]]
) -> None:
    run, config = tmp_path / "run", tmp_path / "config.yaml"
    configuration.save(small_config(records, run), config)
    scratch = run / "checkpoints" / "unfinished"
    assert kill_when(config, lambda: (run / "checkpoints/epoch-0001").exists() and scratch.exists())
    assert not (run / "checkpoints/epoch-0003").exists()
    later = time.monotonic() + 3600

    def soon_after_the_second() -> bool:
        nonlocal later
        if (run / "checkpoints/epoch-0002").exists():
            later = min(later, time.monotonic() + 0.05)
        return time.monotonic() > later

    assert kill_when(config, soon_after_the_second)
    check_end(config, run, expected)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_moments(
    seed: int,
    records: Path,
    tmp_path: Path,
    expected: tuple[dict[str, bytes], dict[str, object]],
) -> None:
    """Each time a little later, so that all of a run is hit, until it is done."""
    run, config = tmp_path / "run", tmp_path / "config.yaml"
    configuration.save(small_config(records, run), config)
    random = np.random.default_rng(seed)
    begun = time.monotonic()
    # The run's folder appears when training begins; an uneventful start is not worth a kill.
    for _ in range(3):
        deadline = None

        def moment(seconds: float = float(random.uniform(0, 12))) -> bool:
            nonlocal deadline
            if deadline is None and run.exists():
                deadline = time.monotonic() + seconds
            return deadline is not None and time.monotonic() > deadline

        if not kill_when(config, moment):
            break
    check_end(config, run, expected)
    assert time.monotonic() - begun < 1800
