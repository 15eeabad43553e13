"""How fast a run is, how much of its time it waits for the input, and where the time goes."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Logs = dict[str, float] | None


class Speed(keras.callbacks.Callback):
    """Measures each epoch's training, without validation and what other callbacks write.

    The share of waiting is the time until the next batch is there, over the time of the steps: near
    0 where the input keeps up, near 1 where the computation is starved. The first epoch of a
    process contains the compilation.

    Args:
        batch_size: Images a step.
        kept_step: Which step's batch of an epoch is kept, from 0.

    Attributes:
        figures: `images_per_second` and `input_wait_share`, in [0, 1], of the last epoch.
        kept_batch: The batch kept of the last epoch, float32 x (B, H, W, C) and packed y
            (B, H', W', 2+T), those of the first device; None where no epoch had that step.
    """

    def __init__(self, batch_size: int, kept_step: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.kept_step = kept_step
        self.figures: dict[str, float] = {}
        self.kept_batch: tuple[np.ndarray, ...] | None = None
        self._step: Any = None
        self._steps = 0
        self._begun = self._waiting = self._working = 0.0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Take the step apart: first the batch, then the computation."""
        self._step = self.model.train_function
        self.model.train_function = self._timed_step

    def on_train_end(self, logs: Logs = None) -> None:
        """Put it together again, for the next `fit`."""
        self.model.train_function = self._step

    def _timed_step(self, iterator: Iterator[Any]) -> Any:
        begun = time.perf_counter()
        batch = next(iterator)
        self._waiting += time.perf_counter() - begun
        if self._steps == self.kept_step:
            local = self.model.distribute_strategy.experimental_local_results
            self.kept_batch = tuple(np.asarray(local(part)[0]) for part in batch)
        # A step's results are computed when they are looked at: until the next batch is asked
        # for, all of this step's time has passed.
        return self._step(iter([batch]))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start anew."""
        self._steps = 0
        self._waiting = self._working = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Note when the step began."""
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Add the step; its loss has been read, so it is done."""
        self._working += time.perf_counter() - self._begun
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Work the figures out."""
        if self._steps:
            self.figures = {
                "images_per_second": self._steps * self.batch_size / self._working,
                "input_wait_share": self._waiting / self._working,
            }


class Profile(keras.callbacks.Callback):
    """Records what a few steps do on each device, once a `fit`, for TensorBoard's profiler.

    The first step is left out, as it compiles. The steps are those of one epoch: where an epoch has
    fewer, there are fewer.

    Args:
        folder: TensorBoard's folder of the run.
        steps: How many.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__()
        self.folder = folder
        self.steps = steps
        self._seen = 0
        self._running = self._done = False

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Begin after the first step."""
        if self._seen and not self._running and not self._done:
            tf.profiler.experimental.start(str(self.folder))
            self._running, self._done, self._seen = True, True, 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count, and stop after enough steps or at the end of the epoch, before the validation."""
        self._seen += 1
        last = batch + 1 == self.params["steps"]
        if self._running and (self._seen == self.steps or last):
            tf.profiler.experimental.stop()
            self._running = False

    def on_train_end(self, logs: Logs = None) -> None:
        """Nothing may go on after training."""
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
