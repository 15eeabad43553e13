"""What belongs to every epoch: its learning rate, where the run is, and a checkpoint at its end."""

import logging
from collections.abc import Sequence
from pathlib import Path

import keras

from unet_keras.training.phases import Stretch
from unet_keras.training.resume import save_checkpoint
from unet_keras.training.state import RunState

logger = logging.getLogger(__name__)

Logs = dict[str, float] | None


class LearningRate(keras.callbacks.Callback):
    """Gives each step the learning rate of its place in the phase.

    A schedule within the optimizer would count the optimizer's own steps, which stand still when a
    loss scale was too large and start anew when the optimizer is reset.

    Args:
        state: Where the run is; moved on by `Progress`.
        stretches: The run's phases.
    """

    def __init__(self, state: RunState, stretches: Sequence[Stretch]) -> None:
        super().__init__()
        self.state = state
        self.stretches = stretches

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Set the rate of this step."""
        stretch = self.stretches[self.state.phase]
        self.model.optimizer.learning_rate = stretch.rate(self.state.phase_step + batch)


class Progress(keras.callbacks.Callback):
    """Moves the run's state on after each epoch and ends phases early.

    Comes after what judges the epoch, and before what tells of it or saves it.

    Args:
        state: Where the run is; changed in place.
        stretches: The run's phases.
        monitor: Name of the figure that decides which epoch is best; None takes the last.
    """

    def __init__(self, state: RunState, stretches: Sequence[Stretch], monitor: str | None) -> None:
        super().__init__()
        self.state = state
        self.stretches = stretches
        self.monitor = monitor
        self._early: Stretch | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Take the epoch over."""
        figures = {name: float(value) for name, value in (logs or {}).items()}
        stretch = self.stretches[self.state.phase]
        steps = self.params["steps"]
        missing = self.state.phase_step + steps < stretch.steps
        if self.state.advance(stretch, steps, figures, self.monitor):
            self.model.stop_training = True
            self._early = stretch if missing else None

    def on_train_end(self, logs: Logs = None) -> None:
        """Say why it is not longer."""
        if self._early is not None:
            logger.info(
                "%s ends: %s was not better for %d epochs",
                self._early.name, self.monitor, self._early.patience,
            )  # fmt: skip


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch.

    Comes after all callbacks that write about the epoch: what is written before a checkpoint and
    belongs to an epoch after it is cut off when the run goes on.

    Args:
        run: The run's folder.
        state: Where the run is; moved on by `Progress`.
        every: Checkpoints of so many epochs stay for good; 0 for none.
    """

    def __init__(self, run: Path, state: RunState, *, every: int = 0) -> None:
        super().__init__()
        self.run = run
        self.state = state
        self.every = every

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write it."""
        save_checkpoint(self.run, self.model, self.state, every=self.every)
