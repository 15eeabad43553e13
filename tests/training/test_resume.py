import json
import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.runs import differing, outcome, small_config
from unet_keras.errors import InputError
from unet_keras.training import computation, fit, resume
from unet_keras.training.resume import complete, newest_state, restore, save_checkpoint
from unet_keras.training.state import RunState


class KilledError(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class KillAt(keras.callbacks.Callback):
    """Kills at the end of the n-th step that it sees."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


def train_until(step: int, config: Any) -> None:
    make, killer = fit.make_callbacks, KillAt(step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "make_callbacks", lambda *given: [killer, *make(*given)])
        with pytest.raises(KilledError):
            fit.train(config)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_two_runs_are_the_same_bit_by_bit(
    uninterrupted: dict[str, bytes], records: Path, tmp_path: Path
) -> None:
    run = fit.train(small_config(records, tmp_path / "run"))
    assert differing(outcome(run), uninterrupted) == []
    # Batch normalization, dropout and Adam are in what was compared.
    assert len(uninterrupted) > 60


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 9], ids=["before any checkpoint", "phase 2", "at the end"])
@pytest.mark.usefixtures("fast_data")
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    step: int, uninterrupted: dict[str, bytes], records: Path, tmp_path: Path
) -> None:
    config = small_config(records, tmp_path / "run")
    train_until(step, config)
    assert differing(outcome(fit.train(config)), uninterrupted) == []


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_the_loss_scale_goes_on_too(records: Path, tmp_path: Path) -> None:
    outcomes = []
    for name in ("whole", "killed"):
        config = small_config(
            records, tmp_path / name, "train.precision=mixed_float16",
            "train.phases=[{epochs: 2, augment: none}]",
        )  # fmt: skip
        try:
            if name == "killed":
                train_until(3, config)
            outcomes.append(outcome(fit.train(config)))
        finally:
            keras.config.set_dtype_policy("float32")
    assert differing(*outcomes) == []


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_a_run_goes_on_as_precisely_as_it_was_begun(
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`auto` is something else on the next machine, such as one without the GPU."""
    outcomes = []
    for name in ("whole", "killed"):
        config = small_config(
            records, tmp_path / name, "train.precision=auto",
            "train.phases=[{epochs: 2, augment: none}]",
        )  # fmt: skip
        try:
            monkeypatch.setattr(computation, "resolve_precision", lambda _: "mixed_float16")
            if name == "killed":
                train_until(3, config)
                monkeypatch.setattr(computation, "resolve_precision", lambda _: "float32")
            outcomes.append(outcome(fit.train(config)))
        finally:
            keras.config.set_dtype_policy("float32")
    assert differing(*outcomes) == []
    assert caplog.text.count("begun in mixed_float16 and goes on in it, although") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_early_stopping_and_the_best_score_go_on_too(records: Path, tmp_path: Path) -> None:
    """Killed when one epoch of two was without progress: the phase ends as if nothing had been."""
    outcomes, states = [], []
    for name in ("whole", "killed"):
        config = small_config(
            records, tmp_path / name,
            # Too small a rate for progress: the first epoch stays the best.
            "train.phases=[{epochs: 6, augment: none, learning_rate: 1e-12, patience: 2}]",
            "model.normalization=none",
        )  # fmt: skip
        if name == "killed":
            train_until(5, config)
            state = newest_state(tmp_path / name)
            assert state is not None
            assert (state.epoch, state.best_epoch, state.stale_epochs) == (2, 1, 1)
        outcomes.append(outcome(fit.train(config)))
        states.append(newest_state(tmp_path / name))
    assert differing(*outcomes) == []
    assert [(s.epoch, s.best_epoch, s.phase) for s in states if s] == [(3, 1, 1)] * 2


@pytest.fixture(scope="module")
def models() -> list[keras.Model]:
    """Two small models of one kind with optimizer, dropout and different weights."""

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5, seed=seed)]
        )
        model.compile(keras.optimizers.Adam(0.1 * (seed + 1)), loss="mse")
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 4)))
        return model

    return [build(0), build(1)]


def everything(model: keras.Model) -> list[np.ndarray]:
    return [np.array(v) for v in [*model.variables, *model.optimizer.variables]]


def test_a_checkpoint_holds_weights_seeds_and_optimizer(
    models: list[keras.Model], tmp_path: Path
) -> None:
    first, second = models
    saved = everything(first)
    save_checkpoint(tmp_path, first, RunState(epoch=3, best_epoch=3))
    state = newest_state(tmp_path)
    assert state == RunState(epoch=3, best_epoch=3)
    before = everything(second)
    restore(tmp_path, state, second)
    for value, wanted in zip(everything(second), saved, strict=True):
        np.testing.assert_array_equal(value, wanted)
    assert any((one != two).any() for one, two in zip(before, saved, strict=True))
    # The published network opens by itself and has no optimizer.
    assert not keras.saving.load_model(tmp_path / "model.keras").compiled
    restore(tmp_path, state, first)
    second.set_weights([weight + 1 for weight in second.get_weights()])


CHANGES = ("replace", "rename", "unlink", "rmdir", "mkdir")


@pytest.mark.slow
def test_stopped_at_every_change_of_a_file_a_run_keeps_a_whole_checkpoint(
    models: list[keras.Model], tmp_path: Path
) -> None:
    """Epoch 3 becomes the best and the last while 1 was the best and 2 the last."""
    for allowed in range(200):
        run = tmp_path / str(allowed)
        for epoch, best in ((1, 1), (2, 1)):
            save_checkpoint(run, models[0], RunState(epoch=epoch, best_epoch=best))
        state, finished = RunState(epoch=3, best_epoch=3, history=[{"epoch": 3.0}]), True
        with pytest.MonkeyPatch.context() as patch:
            _allow(patch, allowed)
            try:
                save_checkpoint(run, models[1], state)
            except KilledError:
                finished = False
        found = newest_state(run)
        assert found is not None
        assert found.epoch == (3 if (run / "checkpoints/epoch-0003").exists() else 2)
        complete(run, found)
        names = sorted(path.name for path in (run / "checkpoints").iterdir())
        assert names == (["epoch-0003"] if found.epoch == 3 else ["epoch-0001", "epoch-0002"])
        best = keras.saving.load_model(run / "model.keras").get_weights()
        np.testing.assert_array_equal(best[0], models[found.epoch == 3].get_weights()[0])
        assert not list(run.glob("*unfinished*"))
        shutil.rmtree(run)
        if finished:
            break
    assert 10 < allowed < 100


def _refuse(*_: Any, **__: Any) -> None:
    raise OSError("no room here")


def _allow(patch: pytest.MonkeyPatch, allowed: int) -> None:
    """Let so many changes of the file system happen and kill at the next."""
    left = [allowed]

    def guarded(change: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return change(*args, **named)

        return call

    for name in CHANGES:
        patch.setattr(os, name, guarded(getattr(os, name)))
    for name in ("savez",):
        patch.setattr(np, name, guarded(getattr(np, name)))
    for name in ("write_text", "write_bytes", "rename", "replace", "mkdir"):
        patch.setattr(Path, name, guarded(getattr(Path, name)))
    patch.setattr(resume, "save_network", guarded(resume.save_network))


def test_old_checkpoints_go_best_last_and_every_third_stay(
    models: list[keras.Model], tmp_path: Path
) -> None:
    for epoch in range(1, 9):
        save_checkpoint(tmp_path, models[0], RunState(epoch=epoch, best_epoch=2), every=3)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["epoch-0002", "epoch-0003", "epoch-0006", "epoch-0008"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(
    models: list[keras.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, models[0], RunState(epoch=1, best_epoch=1))
    monkeypatch.setattr(np, "savez", _refuse)
    with pytest.raises(OSError, match="no room here"):
        save_checkpoint(tmp_path, models[0], RunState(epoch=2, best_epoch=2))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch-0001"]


@pytest.mark.parametrize("file", ["state.json", "model.keras", "training.npz"])
def test_a_damaged_checkpoint_is_named(
    file: str, models: list[keras.Model], tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path, models[0], RunState(epoch=1, best_epoch=1))
    (folder / file).write_bytes((folder / file).read_bytes()[:-30])
    with pytest.raises(InputError, match=r"epoch-0001 cannot be read \(.*\): remove this folder"):
        restore(tmp_path, newest_state(tmp_path) or RunState(), models[0])


@pytest.mark.parametrize("change", [{"epoch": 2}, {"epoch": "1"}, {"history": {}}, {"step": 1.5}])
def test_a_state_that_no_run_wrote_is_refused(
    change: dict, models: list[keras.Model], tmp_path: Path
) -> None:
    file = save_checkpoint(tmp_path, models[0], RunState(epoch=1, best_epoch=1)) / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=r"epoch-0001 cannot be read \(state.json does not hold"):
        newest_state(tmp_path)


def test_checkpoints_that_cannot_be_listed_are_not_none(
    models: list[keras.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, models[0], RunState(epoch=1, best_epoch=1))
    monkeypatch.setattr(Path, "iterdir", _forbid)
    with pytest.raises(PermissionError):
        newest_state(tmp_path)


def _forbid(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_the_published_network_is_a_file_of_its_own(
    models: list[keras.Model], tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path, models[0], RunState(epoch=1, best_epoch=1))
    with (tmp_path / "model.keras").open("r+b") as published:
        published.truncate(100)
    restore(tmp_path, RunState(epoch=1), models[0])
    assert (folder / "model.keras").stat().st_size > 100


def test_the_history_is_a_table_of_all_figures(models: list[keras.Model], tmp_path: Path) -> None:
    rows = [{"epoch": 1.0, "loss": 0.1}, {"epoch": 2.0, "loss": 1 / 3, "val_loss": 2.0}]
    save_checkpoint(tmp_path, models[0], RunState(epoch=2, best_epoch=2, history=rows))
    text = (tmp_path / "history.csv").read_text()
    assert text == "epoch,loss,val_loss\n1.0,0.1,\n2.0,0.3333333333333333,2.0\n"
    stored = json.loads((tmp_path / "checkpoints/epoch-0002/state.json").read_text())
    assert stored["history"] == rows
