import errno
import os
import re
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import differing, outcome, simple_data, small_config
from unet_keras import config as configuration
from unet_keras.config import Config
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import read_records
from unet_keras.pipeline.dataset import load_dataset
from unet_keras.records.manifest import read_manifest
from unet_keras.train import main
from unet_keras.training import data, fit, resume
from unet_keras.training.guard import LossGuard, explained
from unet_keras.training.naming import batch_images
from unet_keras.training.resume import newest_state
from unet_keras.training.state import RunState


def test_the_images_of_a_batch_are_named_afterwards(records: Path) -> None:
    """Whole images, so that each can be told by its pixels."""
    pixels = {
        record["image"].tobytes(): record["file_name"]
        for record in read_records(records, read_manifest(records), "train")
    }
    data = load_dataset(records, "train", crop=(160, 192), batch_size=3, seed=5)
    for position, (images, _) in enumerate(data.take(4)):
        expected = [pixels[image.numpy().astype("uint8").tobytes()] for image in images]
        named = batch_images(records, batch_size=3, seed=5, position=position)
        assert list(named) == expected


def guard_of(run: Path) -> LossGuard:
    (run / "checkpoints/epoch-0002").mkdir(parents=True)
    guard = LossGuard(run, RunState(epoch=2, step=20, phase_step=5), lambda step: (f"im{step}",))
    guard.set_params({"steps": 10})
    return guard


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_placed(loss: float, tmp_path: Path) -> None:
    guard = guard_of(tmp_path / "run")
    guard.on_train_batch_end(6, {"loss": 1.0})
    expected = (
        rf"the loss became {loss} at step 8 of 10 in epoch 3 \(step 28 of the run\); its batch: "
        r"im12. The last good checkpoint is .*run/checkpoints/epoch-0002. Look at"
    )
    with pytest.raises(InputError, match=expected):
        guard.on_train_batch_end(7, {"loss": loss})
    with pytest.raises(InputError, match=r"val_loss became .* in epoch 3. The last good"):
        guard.on_epoch_end(2, {"loss": 1.0, "val_loss": loss})


@pytest.mark.parametrize("spoiled", ["weights", "optimizer"])
def test_what_the_last_step_of_an_epoch_spoiled_is_not_kept(spoiled: str, tmp_path: Path) -> None:
    """Its loss is that before its update, so without validation no figure tells of it."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    guard = guard_of(tmp_path / "run")
    guard.set_model(model)
    guard.on_epoch_end(2, {"loss": 1.0})
    variable = model.weights[0] if spoiled == "weights" else model.optimizer.variables[-1]
    variable.assign(np.full(variable.shape, np.inf))
    with pytest.raises(InputError, match=r"last step of epoch 3; its batch: im14. The last good"):
        guard.on_epoch_end(2, {"loss": 1.0})


def poisoned(step: int) -> Any:
    """Return `simple_data` with one training batch that has a NaN in its weights."""

    def load(path: Path, split: str, **given: Any) -> tf.data.Dataset:
        data = simple_data(path, split, **given)
        if split != "train":
            return data

        def poison(number: tf.Tensor, batch: Any) -> Any:
            shown = number // 2 if given["augment"].mode == "append" else number
            nan = tf.where(shown == step, np.nan, 0.0)
            return batch[0], batch[1] + tf.cast(nan, tf.float32)

        return data.enumerate(given["start_step"]).map(poison)

    return load


@pytest.mark.slow
def test_a_run_stops_at_the_step_and_names_its_images(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth step of an appending phase is its third plain one; one batch came before it."""
    monkeypatch.setattr(data, "load_dataset", poisoned(3))
    config = small_config(
        records, tmp_path / "run",
        "train.phases=[{steps: 1, augment: none}, {epochs: 2, augment: append}]",
    )  # fmt: skip
    names = batch_images(records, batch_size=2, seed=0, position=3)
    expected = r"at step 1 of 4 in epoch 3 \(step 6 of the run\); its batch: " + ", ".join(names)
    with pytest.raises(InputError, match=expected):
        fit.train(config)
    state = newest_state(tmp_path / "run")
    assert state is not None
    assert (state.epoch, state.step) == (2, 5)


class At(keras.callbacks.Callback):
    """Does something at the end of a step of the run."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__()
        self.left, self.action = step, action

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def doing(step: int, action: Any) -> Any:
    make = fit.make_callbacks
    return lambda *given: [At(step, action), *make(*given)]


@pytest.mark.slow
def test_a_shard_that_is_lost_while_training_is_named(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing and cut off, in one run, which goes on each time the shard is there again."""
    copy = tmp_path / "records"
    shutil.copytree(records, copy)
    shard = sorted(copy.glob("train-*.tfrecord"))[0]
    whole = shard.read_bytes()
    config = small_config(
        copy, tmp_path / "run", "pipeline.cache=false", "train.steps_per_epoch=3",
        "train.phases=[{epochs: 20, augment: none}]",
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(fit, "make_callbacks", doing(4, shard.unlink))
        with pytest.raises(InputError, match=rf"{shard.name} is missing.*last good checkpoint is"):
            fit.train(config)
    state = newest_state(tmp_path / "run")
    assert state is not None
    shard.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "make_callbacks", doing(1, lambda: shard.write_bytes(whole[:-50])))
        with pytest.raises(InputError, match=rf"{shard.name}: record .* is cut off"):
            fit.train(config)
    after = newest_state(tmp_path / "run")
    assert after is not None
    assert after.epoch >= state.epoch >= 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EFBIG, "File too large", "x"), "File too large"),
        (
            RuntimeError("(file write failed: error message = 'No space left on device')"),
            "No space",
        ),
        (tf.errors.ResourceExhaustedError(None, None, "x; No space left on device"), "No space"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), "smaller pipeline.b"),
        (tf.errors.DataLossError(None, None, "corrupted record at 12\n more"), "corrupted record"),
    ],
)
def test_errors_of_disk_memory_and_records_become_one_line(
    error: Exception, message: str, records: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints/epoch-0002").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=message) as caught,
        explained(tmp_path, records),
    ):
        raise error
    assert "\n" not in str(caught.value)
    assert "checkpoints/epoch-0002" in str(caught.value) or "smaller" in message


@pytest.mark.parametrize("error", [ValueError("a bug"), tf.errors.InternalError(None, None, "x")])
def test_other_errors_keep_their_traceback(error: Exception, records: Path, tmp_path: Path) -> None:
    with pytest.raises(type(error)), explained(tmp_path, records):
        raise error


def command(config: Config, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `python -m unet_keras.train` in this process: exit status, what it said on stderr."""
    configuration.save(config, folder / "config.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", str(folder / "config.yaml")])
        with pytest.raises(SystemExit) as stop:
            main()
    lines = capsys.readouterr().err.splitlines()
    return int(stop.value.code or 0), "\n".join(line for line in lines if is_ours(line))


def is_ours(line: str) -> bool:
    return line.startswith(("error:", "stopped", "Traceback"))


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_files_that_cannot_grow_and_ctrl_c_end_with_one_line(
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    uninterrupted: dict[str, bytes],
) -> None:
    """First no file may be larger than half a checkpoint, as on a full disk; then Ctrl-C."""
    config = small_config(records, tmp_path / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        status, said = command(config, tmp_path, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    assert re.fullmatch(r"error: .*run cannot be written: File too large .*No checkpoint.*", said)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "make_callbacks", doing(4, lambda: os.kill(os.getpid(), signal.SIGINT)))
        status, said = command(config, tmp_path, capsys)
    assert (status, said) == (
        130,
        "stopped by Ctrl-C; the same command goes on from here",
    )
    assert command(config, tmp_path, capsys) == (0, "")
    assert differing(outcome(tmp_path / "run"), uninterrupted) == []


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_a_full_disk_leaves_the_last_checkpoint_and_no_scraps(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, save, calls = small_config(records, tmp_path / "run"), resume.save_network, []

    def full(model: keras.Model, path: Path) -> None:
        calls.append(path)
        save(model, path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(resume, "save_network", full)
    expected = r"run cannot be written: No space left on device \(\d+ MB are free\). The last good "
    with pytest.raises(InputError, match=expected):
        fit.train(config)
    names = [path.name for path in (tmp_path / "run/checkpoints").iterdir()]
    assert names == ["epoch-0001"]
