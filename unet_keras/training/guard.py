"""What ends a run before its time, in one line that says where it happened and how to go on."""

import errno
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from unet_keras.errors import InputError
from unet_keras.records.manifest import demand_intact
from unet_keras.training.resume import newest_checkpoint
from unet_keras.training.state import RunState

logger = logging.getLogger(__name__)

Logs = dict[str, float] | None

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


class LossGuard(keras.callbacks.Callback):
    """Stops at the first step whose loss is no number, and names the images of its batch.

    Args:
        run: The run's folder, for the message.
        state: Where the run is.
        images_of: From a step of the phase to the names of its batch's images.
    """

    def __init__(
        self, run: Path, state: RunState, images_of: Callable[[int], tuple[str, ...]]
    ) -> None:
        super().__init__()
        self.run = run
        self.state = state
        self.images_of = images_of

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look at the mean of the epoch so far, which one bad step spoils for good."""
        loss = (logs or {})["loss"]
        if not math.isfinite(loss):
            where = f"at step {batch + 1} of {self.params['steps']} in epoch {self.state.epoch + 1}"
            names = ", ".join(self.images_of(self.state.phase_step + batch))
            raise InputError(
                f"the loss became {loss} {where} (step {self.state.step + batch + 1} of the run); "
                f"its batch: {names}. {last_checkpoint(self.run)}. Look at these "
                "images, or try a lower learning_rate or train.precision=float32 with another "
                "train.run_dir"
            )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Look at the validation's figures and at all weights; before the checkpoint is written.

        A step's loss is that before its update: what the epoch's last one did shows in them alone.
        """
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise InputError(
                    f"{name} became {value} in epoch {self.state.epoch + 1}. "
                    f"{last_checkpoint(self.run)}. Try a lower learning_rate or "
                    "train.precision=float32 with another train.run_dir"
                )
        if not all_finite(self.model):
            names = ", ".join(self.images_of(self.state.phase_step + self.params["steps"] - 1))
            raise InputError(
                f"weights became infinite in the last step of epoch {self.state.epoch + 1}; its "
                f"batch: {names}. {last_checkpoint(self.run)}. Look at these images, or try a "
                "lower learning_rate or train.precision=float32 with another train.run_dir"
            )


def all_finite(model: keras.Model) -> bool:
    """Tell whether all weights and all that the optimizer remembers are numbers."""
    variables = [*model.weights, *model.optimizer.variables]
    values = (keras.ops.convert_to_tensor(variable) for variable in variables)
    return all(
        bool(keras.ops.all(keras.ops.isfinite(value)))
        for value in values
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype))
    )


def last_checkpoint(run: Path) -> str:
    """Say what a run that stops now leaves behind."""
    newest = newest_checkpoint(run)
    if newest is None:
        return "No checkpoint was written yet"
    return f"The last good checkpoint is {newest}"


@contextmanager
def explained(run: Path, records: Path) -> Iterator[None]:
    """Turn what a full disk, damaged records or a full memory raise into one line.

    Args:
        run: The run's folder.
        records: The records' folder.

    Raises:
        InputError: In place of such an error. Other errors pass as they are.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        # h5py reports a full disk as RuntimeError, TensorFlow as an error of its own.
        if _is_full(error):
            raise InputError(_full_disk(run, error)) from None
        if isinstance(error, (tf.errors.DataLossError, tf.errors.NotFoundError)):
            raise InputError(_broken_records(records, run, error)) from None
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise InputError(
                "the device's memory is full: give a smaller pipeline.batch_size, pipeline.crop "
                f"or model.base_filters, and another train.run_dir ({_first_line(error)})"
            ) from None
        raise


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error) for words in _FULL_WORDS)


def _full_disk(run: Path, error: Exception) -> str:
    free = shutil.disk_usage(run).free / 1e6
    words = next((w for w in _FULL_WORDS if w in str(error)), _FULL_WORDS[0])
    return (
        f"{run} cannot be written: {words} ({free:.0f} MB are free). "
        f"{last_checkpoint(run)}; make room, then the same command goes on from there"
    )


def _broken_records(records: Path, run: Path, error: Exception) -> str:
    """Say it in the words of `manifest.verify`, which reads everything if need be."""
    what = _first_line(error)
    try:
        demand_intact(records)
        demand_intact(records, thorough=True)
    except InputError as problem:
        what = str(problem)
    return f"{what}. {last_checkpoint(run)}; the same command goes on from there"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
