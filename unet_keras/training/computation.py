"""How a run computes: seeds, precision, determinism, and the losses of a phase."""

import logging
from functools import cache
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from unet_keras.errors import InputError
from unet_keras.model.losses import (
    MapRegression,
    PixelLoss,
    SoftDice,
    WeightedCrossEntropy,
    WeightedSum,
)
from unet_keras.model.metrics import Dice, IoU, LossPart
from unet_keras.training.phases import Stretch

logger = logging.getLogger(__name__)

Logs = dict[str, float] | None


def set_up(*, seed: int, precision: str, deterministic: bool, begun_in: str = "") -> None:
    """Seed every generator of the process and set its precision and determinism.

    Args:
        seed: Of Python, NumPy and TensorFlow.
        precision: `float32`, `mixed_float16`, `mixed_bfloat16` or `auto`.
        deterministic: Whether each operation has to compute the same bits each time.
        begun_in: What `auto` was when the run began, perhaps on another machine: it stays so.
    """
    chosen = resolve_precision(precision)
    if begun_in and begun_in != chosen:
        logger.warning(
            "the run was begun in %s and goes on in it, although train.precision=%s is %s on this "
            "machine",
            begun_in, precision, chosen,
        )  # fmt: skip
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(begun_in or chosen)


def make_strategy(
    distribute: str, *, batch_size: int, validation_images: int
) -> tf.distribute.Strategy:
    """Return what spreads a batch over devices; models are built and compiled in its scope.

    `mirrored` gives each device the same weights and an equal part of each batch, and adds up their
    gradients. Losses are means over images, so that they are those of one device with the whole
    batch; so is batch normalization as `build_unet` has it, which takes its statistics from all
    devices. Keras's own `BatchNormalization` by default normalizes each part by itself, here with
    statistics of `batch_size` / devices images: losses then differ in the third digit from the
    first step on. Dropout draws other numbers than on one device.

    Args:
        distribute: `none` or `mirrored`.
        batch_size: Images a step, on all devices together.
        validation_images: How many there are.

    Raises:
        InputError: The devices would get unequal parts, or some no validation image.
    """
    if distribute == "none":
        return tf.distribute.get_strategy()
    strategy = _mirrored()
    devices = strategy.num_replicas_in_sync
    if batch_size % devices:
        raise InputError(
            f"pipeline.batch_size={batch_size} cannot be split evenly over the {devices} devices "
            f"of train.distribute={distribute}: give a multiple of {devices}"
        )
    if 0 < validation_images < devices:
        raise InputError(
            f"the records have {validation_images} validation images for the {devices} devices of "
            f"train.distribute={distribute}: give at least {devices}, or none"
        )
    return strategy


@cache
def _mirrored() -> tf.distribute.Strategy:
    """The process's only one: a second would number its exchanges like the first."""
    return tf.distribute.MirroredStrategy()


class FreeInput(keras.callbacks.Callback):
    """Lets batches be made ahead and in parallel although operations are deterministic.

    TensorFlow makes a deterministic process read and transform its data one step at a time as soon
    as anything in a pipeline has a state, here the shuffling. Ours depends on seed and number alone
    and gives the same batches in parallel, so its iterators are made while the switch is off:
    between these calls nothing else happens.
    """

    def __init__(self) -> None:
        super().__init__()
        # Not part of the public interface; where it is missing, input stays slow.
        self._disable = getattr(tf_config, "disable_op_determinism", None)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Comes before the training data's iterator is made."""
        if self._disable is not None:
            self._disable()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Comes before anything is computed."""
        if batch == 0:
            tf.config.experimental.enable_op_determinism()

    def on_test_begin(self, logs: Logs = None) -> None:
        """Comes before the validation data's iterator is made."""
        if self._disable is not None:
            self._disable()

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Comes before anything is computed."""
        if batch == 0:
            tf.config.experimental.enable_op_determinism()


def resolve_precision(precision: str) -> str:
    """Return Keras's policy name; `auto` is what this machine's fastest device computes in.

    Returns:
        `float32`, `mixed_float16` or `mixed_bfloat16`.
    """
    if precision != "auto":
        return precision
    if tf.config.list_physical_devices("GPU"):
        return "mixed_float16"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def describe_devices() -> None:
    """Log what is computed on, and how precisely."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = ", ".join(device.name.split(":", 1)[1] for device in devices)
    logger.info("computing on %s in %s", names, keras.config.dtype_policy().name)


def compile_model(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, stretch: Stretch
) -> None:
    """Give a model the losses of a phase; an optimizer that was used before keeps its state."""
    weighted: list[tuple[PixelLoss, float]] = [
        (WeightedCrossEntropy(stretch.normalize), stretch.cross_entropy),
        (SoftDice(), stretch.dice),
        (MapRegression(stretch.normalize), stretch.distance),
    ]
    parts = [(loss, factor) for loss, factor in weighted if factor > 0]
    overlaps = [metric(joined=stretch.joined) for metric in (Dice, IoU)]
    model.compile(
        optimizer=optimizer,
        loss=WeightedSum([loss for loss, _ in parts], [factor for _, factor in parts]),
        metrics=[*(LossPart(loss) for loss, _ in parts), *overlaps],
        # XLA compiles for a minute and more on a CPU, longer than a short run takes.
        jit_compile=False,
    )
