import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import small_config
from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.training import data, fit
from unet_keras.training.phases import Stretch, reset_optimizer, steps_to_cover
from unet_keras.training.state import RunState


def test_the_rate_follows_the_schedule_over_the_phases_steps() -> None:
    constant = Stretch("first", 20, 10, learning_rate=1e-2, schedule="constant")
    cosine = Stretch("second", 40, 10, learning_rate=1e-3, schedule="cosine")
    assert [constant.rate(step) for step in (0, 19)] == [1e-2, 1e-2]
    assert cosine.rate(0) == 1e-3
    assert cosine.rate(20) == pytest.approx(5e-4)
    assert cosine.rate(39) == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 39 / 40)))
    assert cosine.rate(40) == pytest.approx(0, abs=1e-12)


def test_an_epoch_covers_the_pixels_of_the_training_images() -> None:
    assert steps_to_cover(12 * 520 * 704, (256, 256), 4) == 17
    assert steps_to_cover(100, (256, 256), 4) == 1


def test_the_last_epoch_of_a_phase_in_steps_is_shorter() -> None:
    phase = Stretch("only", steps=25, steps_per_epoch=10)
    assert phase.epochs == 3
    assert [phase.next_epochs(step) for step in (0, 10, 20)] == [(2, 10), (1, 10), (1, 5)]


def plan_of(*phases: str, overrides: tuple[str, ...] = ()) -> list[Stretch]:
    config = load(overrides=[f"train.phases=[{', '.join(phases)}]", *overrides])
    return fit.plan(config, 10)


def test_phases_take_from_the_config_what_they_do_not_say() -> None:
    first, second, third = plan_of(
        "{epochs: 2, augment: none, dice: 0}",
        "{epochs: 3, augment: append, border_weight: 10, optimizer: reset, patience: 2}",
        "{steps: 25, cross_entropy: 0.5, schedule: constant}",
        overrides=("loss.dice=0.7", "loss.border_weight=3"),
    )
    assert (first.cross_entropy, first.dice, first.border_weight) == (1.0, 0.0, 3.0)
    assert (second.cross_entropy, second.dice, second.border_weight) == (1.0, 0.7, 10.0)
    assert (third.cross_entropy, third.dice, third.border_weight) == (0.5, 0.7, 3.0)
    assert (first.steps, first.steps_per_epoch) == (20, 10)
    assert (second.steps, second.steps_per_epoch) == (60, 20), "append doubles an epoch"
    assert (third.steps, third.epochs) == (25, 3)
    assert [s.optimizer for s in (first, second, third)] == ["keep", "reset", "keep"]
    assert [s.patience for s in (first, second, third)] == [0, 2, 0]


@pytest.mark.parametrize(
    ("phases", "overrides", "message"),
    [
        (("{}", "{cross_entropy: 0, dice: 0}"), (), "phase 2 of train.phases has cross_entropy=0"),
        (
            ("{}", "{dice: 0}"),
            ("train.monitor=val_loss",),
            r"weigh the loss differently \(.*\(1.0, 0.0, 5.0\), .*\): give",
        ),
        (("{patience: 2}",), ("train.monitor=last",), "patience must be 0"),
        (("{patience: -1}",), (), "patience=-1 must be at least 0"),
        (("{learning_rate: 0}",), (), "learning_rate=0.* must be above 0"),
    ],
)
def test_phases_that_cannot_be_are_refused(
    phases: tuple[str, ...], overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_of(*phases, overrides=overrides)


def test_a_phase_that_needs_borders_is_refused_before_the_first_one_begins(
    records: Path, tmp_path: Path
) -> None:
    config = small_config(
        records, tmp_path / "run", "records.maps=[]", "loss.border_weight=0",
        "train.phases=[{}, {border_weight: 5}]",
    )  # fmt: skip
    manifest = fit.read_manifest(records)
    bare = replace(manifest, maps=())
    with pytest.raises(
        InputError, match=r"has no border map, but phase 2 of 2 has border_weight=5"
    ):
        fit.check_records(bare, config, fit.plan(config, 1))


def parts_of(dataset: tf.data.Dataset, count: int) -> list[bytes]:
    return [b"".join(p.numpy().tobytes() for p in batch) for batch in dataset.take(count)]


@pytest.mark.usefixtures("fast_data")
def test_append_has_each_batch_plain_and_then_transformed(records: Path, tmp_path: Path) -> None:
    config = small_config(records, tmp_path / "run")
    phases = {
        kind: Stretch("x", 8, 4, augment=kind)  # type: ignore[arg-type]
        for kind in ("none", "replace", "append")
    }
    begun = 3  # steps of phases before this one
    plain, transformed = (
        parts_of(fit.training_data(config, phases[kind], start_step=begun, margin=0), 4)
        for kind in ("none", "replace")
    )
    turns = [part for pair in zip(plain, transformed, strict=True) for part in pair]
    for done in (0, 1, 2, 5):
        data = fit.training_data(
            config, phases["append"], start_step=begun + done, phase_step=done, margin=0
        )
        assert parts_of(data, 3) == turns[done : done + 3]


def test_a_phases_border_weight_reaches_its_data(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = small_config(records, tmp_path / "run"), []
    monkeypatch.setattr(
        data, "load_dataset", lambda _, split, **given: seen.append((split, given["border_weight"]))
    )
    phase = Stretch("x", 2, 2, border_weight=4.0)
    fit.training_data(config, phase, start_step=0, margin=0)
    fit.validation_data(config, phase, margin=0)
    assert seen == [("train", 4.0), ("val", 4.0)]


def test_a_phases_factors_reach_the_loss() -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 1)])
    optimizer = keras.optimizers.Adam()
    truth = np.random.default_rng(0).integers(0, 2, (1, 4, 4, 2)).astype("float32")
    losses = []
    for factors in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        phase = Stretch("x", 2, 2, cross_entropy=factors[0], dice=factors[1])
        fit.compile_model(model, optimizer, phase)
        losses.append(float(model.loss(truth, np.zeros((1, 4, 4, 1), "float32"))))
    assert losses[2] == pytest.approx(2 * losses[0] + 3 * losses[1])
    assert model.optimizer is optimizer, "its state would be lost"


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "with loss scale"])
def test_a_reset_optimizer_steps_as_a_new_one(scaled: bool) -> None:
    def new() -> tuple[keras.Variable, keras.optimizers.Optimizer]:
        variable, optimizer = keras.Variable([1.0, 2.0]), keras.optimizers.Adam(0.1)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build([variable])
        return variable, optimizer

    (used, old), (fresh, young) = new(), new()
    for _ in range(5):
        old.apply([keras.ops.array([3.0, -1.0])])
    reset_optimizer(old)
    used.assign([1.0, 2.0])
    for optimizer in (old, young):
        optimizer.apply([keras.ops.array([0.5, 0.5])])
    np.testing.assert_array_equal(used, fresh)
    assert float(old.learning_rate) == pytest.approx(0.1)


def course(phases: list[Stretch], figures: list[float], monitor: str | None) -> RunState:
    state = RunState()
    for value in figures:
        phase = phases[state.phase]
        state.advance(phase, phase.next_epochs(state.phase_step)[1], {"val_loss": value}, monitor)
    return state


def test_patience_ends_a_phase_and_the_next_begins_anew() -> None:
    phases = [Stretch("a", 100, 10, patience=2), Stretch("b", 100, 10, patience=2)]
    state = course(phases, [3.0, 2.0, 2.5, 2.0], "val_loss")
    assert (state.phase, state.phase_step, state.step, state.stale_epochs) == (1, 0, 40, 0)
    assert (state.best_epoch, state.best_score) == (2, -2.0)
    state = course(phases, [3.0, 2.0, 2.5, 2.0, 9.0, 8.0], "val_loss")
    assert (state.phase, state.phase_step) == (1, 20), "8 is the best of its phase"
    state = course(phases, [3.0, 2.0, 2.5, 2.0, 9.0, 8.0, 8.0, 8.0], "val_loss")
    assert state.phase == 2
    assert [row["phase"] for row in state.history] == [1, 1, 1, 1, 2, 2, 2, 2]


def test_without_validation_the_last_epoch_is_the_best() -> None:
    state = course([Stretch("a", 30, 10, patience=1)], [1.0, 2.0, 3.0], None)
    assert (state.best_epoch, state.phase) == (3, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_early_stopping_and_uneven_epochs_in_a_real_run(records: Path, tmp_path: Path) -> None:
    config = small_config(
        records, tmp_path / "run", "train.monitor=val_dice",
        # The rate is too small to change a Dice coefficient after the first epoch.
        "train.phases=[{epochs: 9, augment: none, learning_rate: 1e-12, patience: 1},"
        " {steps: 3, augment: none, optimizer: reset, learning_rate: 1e-12}]",
    )  # fmt: skip
    run = fit.train(config)
    state = fit.newest_state(run)
    assert state is not None
    assert (state.epoch, state.step, state.phase) == (4, 7, 2)
    assert [row["phase"] for row in state.history] == [1, 1, 2, 2]
    with np.load(run / "checkpoints/epoch-0004/training.npz") as stored:
        numbers = [stored[name] for name in stored.files]
    iterations = [
        int(number) for number in numbers if number.shape == () and number.dtype.kind == "i"
    ]
    assert iterations == [3], "the optimizer counts from the second phase on"


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_the_last_epoch_is_kept_where_no_figure_shall_judge(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = {}
    for monitor in ("val_dice", "last"):
        config = small_config(
            records, tmp_path / monitor, f"train.monitor={monitor}",
            # The rate is too small to change a Dice coefficient after the first epoch.
            "train.phases=[{epochs: 3, augment: none, learning_rate: 1e-12}]",
        )  # fmt: skip
        with caplog.at_level("INFO"):
            state = fit.newest_state(fit.train(config))
        assert state is not None
        best[monitor] = state.best_epoch
    assert best == {"val_dice": 1, "last": 3}
    assert "the model is that of the last epoch, 3" in caplog.text
