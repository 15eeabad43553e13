"""Optimizers, and the running mean of the weights that they may keep.

Training goes on with its own weights; validation and saved networks have the mean, as Keras leaves
it in a model at the end of `fit`. Only trainable weights are averaged: the moving statistics of
batch normalization are running means themselves.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import keras
import numpy as np

Logs = dict[str, float] | None

# They only shift and scale: pulling them towards 0 regularizes nothing.
NOT_DECAYED = ("bias", "gamma", "beta")


def build_optimizer(
    learning_rate: float,
    *,
    kind: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.99,
    betas: tuple[float, float] = (0.9, 0.999),
    amsgrad: bool = False,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    average: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Make a Keras optimizer.

    Args:
        learning_rate: Of its first step, above 0.
        kind: `adam`, or `sgd` with momentum.
        momentum: Of SGD, in [0, 1).
        betas: Of Adam, each in [0, 1).
        amsgrad: Whether Adam divides by the greatest mean of squares so far (Reddi et al. 2018).
        weight_decay: Share of each kernel that a step takes away, times the learning rate
            (Loshchilov and Hutter 2019); biases and normalizations are left alone.
        clip_norm: Longest gradient, of all weights together; 0 for no limit.
        average: How much the running mean of the weights keeps a step, in [0, 1); 0 for none.

    Returns:
        The optimizer. `compile` wraps it in a loss scale where the precision is float16.
    """
    options: dict[str, Any] = {"learning_rate": learning_rate}
    if weight_decay:
        options["weight_decay"] = weight_decay
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    if average:
        options |= {"use_ema": True, "ema_momentum": average}
    if kind == "sgd":
        optimizer = keras.optimizers.SGD(momentum=momentum, **options)
    else:
        optimizer = keras.optimizers.Adam(
            beta_1=betas[0], beta_2=betas[1], amsgrad=amsgrad, **options
        )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def own_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights that are averaged, none where the model's optimizer does not average."""
    return [own for own, _ in _pairs(model.optimizer)]


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within it, a compiled model has the means of its weights, if its optimizer keeps any.

    Keras's `SwapEMAWeights` exchanges the two by additions, which round: a run would not be the
    same with and without validation.
    """
    own = _values(model)
    if _steps(model.optimizer):  # before the first, the means are still zero
        for variable, mean in _pairs(model.optimizer):
            variable.assign(mean)
    try:
        yield
    finally:
        _assign(model, own)


class AveragedWeights(keras.callbacks.Callback):
    """Validates with the means of the weights; comes before callbacks that look at the outcome."""

    def __init__(self) -> None:
        super().__init__()
        self._validation = ExitStack()
        self._own: list[np.ndarray] = []

    def on_test_begin(self, logs: Logs = None) -> None:
        """Take the means."""
        self._validation.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs: Logs = None) -> None:
        """Return to training's own weights."""
        self._validation.close()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Remember training's own weights, which `fit` replaces by their means as it ends."""
        self._own = _values(self.model)

    def on_train_end(self, logs: Logs = None) -> None:
        """Return to them: the run may go on with another `fit`."""
        _assign(self.model, self._own)


def _pairs(optimizer: Any) -> list[tuple[keras.Variable, keras.Variable]]:
    """Each averaged weight and its mean; none before the optimizer is built."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not (inner.use_ema and inner.built):
        return []
    # Keras's own callback reads them here too.
    means = inner._model_variables_moving_average
    return list(zip(inner._trainable_variables, means, strict=True))


def _steps(optimizer: Any) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def _values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in own_weights(model)]


def _assign(model: keras.Model, values: list[np.ndarray]) -> None:
    for variable, value in zip(own_weights(model), values, strict=True):
        variable.assign(value)
