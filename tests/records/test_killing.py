"""Killed at any moment, a second run goes on and ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.records.examples import drawn
from tests.records.test_writer import content
from unet_keras.records.manifest import read_manifest, verify
from unet_keras.records.writer import write_records

ROOT = Path(__file__).parents[2]
COUNTS = {"train": 40, "test": 3}
FAST = {"train": 9, "test": 1}


class KilledError(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Executioner:
    """Lets so many changes of the file system happen, and none after that."""

    CHANGES = ("open", "replace", "unlink", "rename", "mkdir", "rmdir")

    def __init__(self, monkeypatch, allowed):
        self.left = allowed
        for name in self.CHANGES:
            monkeypatch.setattr(Path, name, self._guarded(name, getattr(Path, name)))
        for name in ("unlink", "rmdir"):  # what shutil.rmtree calls
            monkeypatch.setattr(os, name, self._guarded(name, getattr(os, name)))

    def _guarded(self, name, change):
        def guarded(*args, **named):
            if name != "open" or set("wax+") & set("".join(map(str, args[1:2]))):
                self.left -= 1
                if self.left < 0:
                    raise KilledError
            return change(*args, **named)

        return guarded


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "records"
    write_records(drawn(COUNTS), path, workers=1, shard_images=20)
    return content(path)


@pytest.fixture(scope="module")
def expected_fast(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "records"
    write_records(drawn(FAST), path, workers=1, shard_images=8)
    return content(path)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "step"), [("nothing", 5), ("other records", 1)])
def test_stopped_at_every_change_of_a_file(before, step, expected_fast, tmp_path):
    """A run that stops after 0, 1, 2, ... changes of the file system, and one that continues."""
    old, kept = None, tmp_path / "kept"
    if before == "other records":
        write_records(drawn({"train": 3, "val": 2}), kept, workers=1, shard_images=1)
        old = content(kept)
    for allowed in range(0, 1000, step):
        path = tmp_path / str(allowed) / "records"
        path.parent.mkdir()
        if old is not None:
            shutil.copytree(kept, path)
        with pytest.MonkeyPatch.context() as patch:
            Executioner(patch, allowed)
            try:
                write_records(drawn(FAST), path, workers=1, shard_images=8)
                finished = True
            except KilledError:
                finished = False
        if (path / "manifest.json").exists():
            assert verify(path) == []
            seen = {name: data for name, data in content(path).items() if "/" not in name}
            if old is None or seen["manifest.json"] != old["manifest.json"]:
                assert seen == expected_fast
            else:
                assert seen.items() <= old.items()
        write_records(drawn(FAST), path, workers=1, shard_images=8)
        assert content(path) == expected_fast
        if finished:
            break
    assert 20 < allowed < 200


def converting(path, workers, *, images, seconds):
    """Start a conversion of images that take so many seconds each; return it once it has begun."""
    command = ["-m", "tests.records.examples", str(path), str(workers), str(images), str(seconds)]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    return process


def kill_after(seconds, path, workers):
    """Kill a conversion after so many seconds of it."""
    with converting(path, workers, images=COUNTS["train"], seconds=0.01) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def children(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []


def check_killing(moment, workers, path, expected):
    kill_after(moment, path, workers)
    if (path / "manifest.json").exists():  # it was faster
        assert read_manifest(path)
        assert verify(path) == []
    write_records(drawn(COUNTS, seconds=0.01), path, workers=1, shard_images=20)
    after = {name: data for name, data in content(path).items() if name != ".conversion.json"}
    assert after == {name: d for name, d in expected.items() if name != ".conversion.json"}


@pytest.mark.parametrize("number", range(3))
def test_killed_at_a_few_moments(number, expected, tmp_path):
    moment = np.random.default_rng(number).uniform(0.05, 0.6)
    check_killing(moment, 1, tmp_path / "records", expected)


@pytest.mark.full
@pytest.mark.parametrize("number", range(20))
def test_killed_at_many_moments(number, expected, tmp_path):
    rng = np.random.default_rng(100 + number)
    workers = 1 + number % 2
    check_killing(rng.uniform(0.0, 1.0 + 3.0 * (workers - 1)), workers, tmp_path / "r", expected)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_workers_end_with_their_parent(tmp_path):
    deadline = time.monotonic() + 120  # a busy machine starts its workers late
    with converting(tmp_path / "records", 2, images=1000, seconds=1.0) as process:
        while len(left := children(process.pid)) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    while any(Path(f"/proc/{pid}/exe").exists() for pid in left):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("started", "wait"), [(2, 0), (3, 0), (3, 0.1), (3, 0.3)])
def test_ctrl_c_while_workers_start_says_so_and_no_more(started, wait, tmp_path):
    """The first child is what watches over shared memory, the next ones are workers."""
    command = [sys.executable, "-m", "unet_keras.make_records", f"records.path={tmp_path / 'r'}"]
    deadline = time.monotonic() + 120
    with subprocess.Popen(
        [*command, "records.workers=2", "source.counts=[40, 1, 1]", "source.size=[96, 112]"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        while len(children(process.pid)) < started:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == "\nstopped by Ctrl-C; the same command goes on from here\n"
