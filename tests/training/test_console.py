import logging
import re
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.training.runs import small_config
from unet_keras.training import fit
from unet_keras.training.console import Console, duration, epochs_left, steps_left
from unet_keras.training.phases import Stretch
from unet_keras.training.state import RunState

PHASES = [Stretch("a", 25, 10), Stretch("b", 40, 20)]


@pytest.mark.parametrize(
    ("state", "epochs", "steps"),
    [
        (RunState(), 5, 65),
        (RunState(phase_step=10), 4, 55),
        (RunState(phase_step=20), 3, 45),
        (RunState(phase=1, phase_step=20), 1, 20),
        (RunState(phase=2), 0, 0),
    ],
)
def test_what_is_left_counts_over_all_phases(state: RunState, epochs: int, steps: int) -> None:
    assert epochs_left(state, PHASES) == epochs
    assert steps_left(state, PHASES) == steps


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(6.6, "7 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (7260, "2 h 1 min"),
     (200_000, "2 d 8 h")],
)  # fmt: skip
def test_times_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def epoch(console: Console, figures: dict[str, float]) -> None:
    console.set_params({"steps": 2, "epochs": 9})
    console.on_epoch_begin(console.state.epoch)
    console.on_train_batch_end(0, {"loss": 1.5})
    console.on_train_batch_end(1, {"loss": 1.25})
    console.state.advance(PHASES[console.state.phase], 10, figures, "val_dice")
    console.on_epoch_end(console.state.epoch - 1, figures)


def test_an_epoch_is_one_line_without_control_characters(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    console = Console(RunState(), PHASES)
    for dice in (0.5, 0.25):
        epoch(console, {"loss": 1.25, "dice": 0.75, "val_loss": 2.0, "val_dice": dice})
    first, second = caplog.messages
    time = r"\d+ s, \d+ s left"
    assert re.fullmatch(
        rf"epoch 1/5: loss 1.2500  dice 0.7500  val_loss 2.0000  val_dice 0.5000, the best so far "
        rf"\({time}\)",
        first,
    )
    assert re.fullmatch(rf"epoch 2/5: .*val_dice 0.2500 \({time}\)", second)
    assert first.isprintable()
    assert capsys.readouterr().err == ""


def test_a_bar_shows_the_loss_and_vanishes(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(RunState(), PHASES, bar=True)
    epoch(console, {"val_dice": 0.5})
    shown = capsys.readouterr().err
    assert "epoch 1/5" in shown
    assert shown.endswith("\r"), "the line is free again"


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_after_an_error_the_bar_is_gone_too(
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = fit.make_callbacks

    def with_bar_and_error(*given: Any) -> list[keras.callbacks.Callback]:
        callbacks = made(*given)
        next(each for each in callbacks if isinstance(each, Console)).bar = True
        return [
            *callbacks,
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: 1 / 0),
        ]

    monkeypatch.setattr(fit, "make_callbacks", with_bar_and_error)
    with pytest.raises(ZeroDivisionError):
        fit.train(small_config(records, tmp_path / "run"))
    shown = capsys.readouterr().err
    assert "epoch 1/" in shown
    assert shown.endswith("\r")


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_a_runs_log_tells_its_course(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unet_keras")
    config = small_config(records, tmp_path / "run", "train.phases=[{epochs: 2, augment: none}]")
    fit.train(config)
    fit.train(config)
    told = "\n".join(record.message for record in caplog.records if "unet_keras" in record.name)
    assert re.search(
        r"computing on CPU:0 in float32\n"
        r"phase 1 of 1: to epoch 2, 2 steps each\n"
        r"epoch 1/2: loss .* left\)\n"
        r"epoch 2/2: loss .* s\)\n"
        r"best val_dice in epoch \d\n"
        r".*run is finished: 2 epochs are done",
        told,
    ), told
