"""What a person sees of a run: one line an epoch, and a bar within it where there is a screen."""

import logging
import time
from collections.abc import Sequence

import keras
from tqdm import tqdm

from unet_keras.training.phases import Stretch
from unet_keras.training.state import RunState

logger = logging.getLogger(__name__)

Logs = dict[str, float] | None

FIGURES = ("loss", "dice", "val_loss", "val_dice")


class Console(keras.callbacks.Callback):
    """Logs a line after each epoch; comes after the state was moved on.

    Args:
        state: Where the run is.
        stretches: The run's phases.
        judged: Whether a figure of the validation tells which epoch is the best.
        bar: Whether standard error is a screen, where a bar shows the course of the epoch and
            vanishes at its end.
    """

    def __init__(
        self,
        state: RunState,
        stretches: Sequence[Stretch],
        *,
        judged: bool = True,
        bar: bool = False,
    ) -> None:
        super().__init__()
        self.state = state
        self.stretches = stretches
        self.judged = judged
        self.bar = bar
        self._bar: tqdm | None = None
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start the clock and the bar."""
        self._begun = time.monotonic()
        last = self.state.epoch + epochs_left(self.state, self.stretches)
        self._bar = tqdm(
            total=self.params["steps"],
            desc=f"epoch {self.state.epoch + 1}/{last}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not self.bar,
        )

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {(logs or {})['loss']:.4f}", refresh=False)
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Take the bar away and say what came of the epoch."""
        self.close_bar()
        figures = logs or {}
        told = [f"{name} {figures[name]:.4f}" for name in FIGURES if name in figures]
        is_best = self.judged and self.state.best_epoch == self.state.epoch
        best = ", the best so far" if is_best else ""
        seconds = time.monotonic() - self._begun
        times = duration(seconds)
        steps, left = self.params["steps"], steps_left(self.state, self.stretches)
        if left:
            times += f", {duration(seconds / steps * left)} left"
        last = self.state.epoch + epochs_left(self.state, self.stretches)
        logger.info("epoch %d/%d: %s%s (%s)", self.state.epoch, last, "  ".join(told), best, times)

    def on_train_end(self, logs: Logs = None) -> None:
        """Leave nothing on the screen."""
        self.close_bar()

    def close_bar(self) -> None:
        """Take the bar away; also after errors, whose message begins a line of its own then."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def epochs_left(state: RunState, stretches: Sequence[Stretch]) -> int:
    """Return how many epochs a run has before it if no phase ends early."""
    rest = stretches[state.phase :]
    done = -(-state.phase_step // rest[0].steps_per_epoch) if rest else 0
    return sum(stretch.epochs for stretch in rest) - done


def steps_left(state: RunState, stretches: Sequence[Stretch]) -> int:
    """Return how many batches a run has before it if no phase ends early."""
    return sum(stretch.steps for stretch in stretches[state.phase :]) - state.phase_step


def duration(seconds: float) -> str:
    """Return a time as people say it: `99 s`, `90 min`, `2 h 1 min`, `2 d 8 h`."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
