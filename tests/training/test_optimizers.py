from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.runs import differing, outcome, simple_data, small_config
from tests.training.test_resume import train_until
from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.training import data, fit
from unet_keras.training.optimizers import averaged_weights, build_optimizer
from unet_keras.training.phases import Stretch
from unet_keras.training.resume import newest_state


def steps_of(gradients: list[list[float]], **options: Any) -> np.ndarray:
    """Return the weights (0, 0) before and after each step with these gradients."""
    variable = keras.Variable([0.0, 0.0], name="kernel")
    optimizer = build_optimizer(0.1, **options)
    course = [np.array(variable)]
    for gradient in gradients:
        optimizer.apply([keras.ops.array(gradient)], [variable])
        course.append(np.array(variable))
    return np.stack(course)


def test_sgd_repeats_steps_by_its_momentum() -> None:
    course = steps_of([[1.0, -2.0]] * 3, kind="sgd", momentum=0.99)
    # v <- 0.99 v - 0.1 g: 1, 1.99, 2.9701 times the first step.
    expected = np.cumsum([0.1, 0.199, 0.29701])[:, None] * [-1.0, 2.0]
    np.testing.assert_allclose(course[1:], expected, rtol=1e-5)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_follows_its_equations(amsgrad: bool) -> None:
    """Kingma and Ba 2015, algorithm 1; the greatest v so far as Keras and Reddi et al. have it."""
    gradients = np.array([[3.0, -1.0], [0.1, 0.2], [0.0, 0.1], [0.2, -0.1]])
    first, second = 0.8, 0.95
    weights, m, v, greatest = np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2)
    expected = [weights]
    for step, gradient in enumerate(gradients, start=1):
        m, v = first * m + (1 - first) * gradient, second * v + (1 - second) * gradient**2
        greatest = np.maximum(greatest, v) if amsgrad else v
        rate = 0.1 * np.sqrt(1 - second**step) / (1 - first**step)
        weights = weights - rate * m / (np.sqrt(greatest) + 1e-7)
        expected.append(weights)
    course = steps_of(gradients.tolist(), betas=(first, second), amsgrad=amsgrad)
    np.testing.assert_allclose(course, expected, rtol=1e-5)


def test_gradients_are_clipped_together() -> None:
    step = steps_of([[30.0, 40.0]], kind="sgd", clip_norm=2.0)[1]
    np.testing.assert_allclose(step, [-0.1 * 2 * 0.6, -0.1 * 2 * 0.8], rtol=1e-5)


def test_kernels_decay_and_biases_do_not() -> None:
    layer = keras.layers.Dense(2, bias_initializer="ones")
    layer.build((None, 3))
    kernel, bias = (np.array(variable) for variable in (layer.kernel, layer.bias))
    optimizer = build_optimizer(0.5, kind="sgd", weight_decay=0.1)
    optimizer.apply([keras.ops.zeros((3, 2)), keras.ops.zeros(2)], [layer.kernel, layer.bias])
    np.testing.assert_allclose(layer.kernel, kernel * (1 - 0.5 * 0.1), rtol=1e-6)
    np.testing.assert_array_equal(layer.bias, bias)


@pytest.mark.parametrize(
    "override",
    ["momentum=1", "betas=[0.9, 1]", "average=-0.1", "weight_decay=-1", "clip_norm=-1"],
)
def test_values_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(InputError, match=f"train.optimizer.{override.split('=')[0]}=.* must be"):
        load(overrides=[f"train.optimizer.{override}"])
    with pytest.raises(InputError, match="amsgrad is a kind of Adam"):
        load(overrides=["train.optimizer={kind: sgd, amsgrad: true}"])


def test_schedules_are_those_of_keras() -> None:
    schedules = keras.optimizers.schedules
    warm = Stretch("x", 50, 10, learning_rate=0.2, final_share=0.1, warmup_steps=10)
    # Keras's decay begins with its warm-up's end, and its warm-up at 0 instead of the first step.
    cosine = schedules.CosineDecay(0.0, 40, alpha=0.1, warmup_target=0.2, warmup_steps=10)
    for step in range(51):
        wanted = cosine(step + 1 if step < 10 else step)
        assert warm.rate(step) == pytest.approx(float(wanted), rel=1e-5)
    falling = Stretch("x", 40, 10, learning_rate=0.2, schedule="exponential", final_share=0.01)
    exponential = schedules.ExponentialDecay(0.2, 40, 0.01)
    for step in range(41):
        assert falling.rate(step) == pytest.approx(float(exponential(step)), rel=1e-5)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("{schedule: exponential}", "final_share=0.0 must be above 0 with schedule=exponential"),
        ("{schedule: constant, final_share: 0.1}", "needs schedule=exponential or cosine"),
        ("{final_share: 2}", r"final_share=2.0 must be in \[0, 1\]"),
        ("{steps: 5, warmup_steps: 5}", "warmup_steps=5, but only 5 steps"),
    ],
)
def test_schedules_that_cannot_be_are_refused(phase: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit.plan(load(overrides=[f"train.phases=[{phase}]"]), 10)


class Recorder(keras.callbacks.Callback):
    """Notes a kernel after each step, and the loss scale if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[np.ndarray] = []
        self.scales: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.kernels.append(np.array(self.model.get_layer("logits").kernel))
        if hasattr(self.model.optimizer, "dynamic_scale"):
            self.scales.append(float(self.model.optimizer.dynamic_scale))


def train_with(callback: keras.callbacks.Callback, config: Any) -> Path:
    make = fit.make_callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "make_callbacks", lambda *given: [callback, *make(*given)])
        return fit.train(config)


AVERAGING = ("train.optimizer={kind: sgd, momentum: 0.9, average: 0.7}", "train.monitor=val_loss")


@pytest.fixture(scope="module")
def averaged(records: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """A run that averages its weights, and its kernels after each step."""
    run, recorder = tmp_path_factory.mktemp("averaged") / "run", Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_dataset", simple_data)
        train_with(recorder, small_config(records, run, *AVERAGING))
    return run, recorder


@pytest.mark.slow
def test_validation_and_saved_networks_have_the_mean_of_the_weights(
    averaged: tuple[Path, Recorder], records: Path
) -> None:
    run, recorder = averaged
    mean, means = recorder.kernels[0], []
    for kernel in recorder.kernels:  # over both phases, each of which is a `fit` of its own
        mean = 0.7 * mean + 0.3 * kernel
        means.append(mean)
    state = newest_state(run)
    assert state is not None
    last = keras.saving.load_model(run / f"checkpoints/epoch-{state.epoch:04d}/model.keras")
    np.testing.assert_allclose(last.get_layer("logits").kernel, means[-1], atol=1e-6)
    assert np.abs(recorder.kernels[-1] - means[-1]).max() > 1e-3, "averaging changed nothing"
    # What validation measured is what the saved network scores.
    config = small_config(records, run, *AVERAGING)
    stretch = fit.plan(config, 2)[-1]
    fit.compile_model(last, build_optimizer(0.1), stretch)
    height, width = fit.read_manifest(records).smallest_size
    validation = simple_data("", "val", crop=(height, width), batch_size=1)
    scores = last.evaluate(validation, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(state.history[-1]["val_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_averages_go_on_bit_by_bit_where_a_run_was_killed(
    averaged: tuple[Path, Recorder], records: Path, tmp_path: Path
) -> None:
    killed = small_config(records, tmp_path / "run", *AVERAGING)
    train_until(5, killed)
    assert differing(outcome(fit.train(killed)), outcome(averaged[0])) == []


def test_means_are_lent_and_weights_come_back_exactly() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(build_optimizer(0.1, average=0.9), loss="mse", run_eagerly=True)
    with averaged_weights(model):  # before the first step there are none
        untouched = model.get_weights()
    assert np.abs(untouched[0]).min() > 0
    for _ in range(3):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
    before = model.get_weights()
    with averaged_weights(model):
        lent = model.get_weights()
    assert (lent[0] != before[0]).any()
    for weight, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, wanted)


class TooLargeScale(Recorder):
    """Injects an infinity: for one step the loss scale lifts gradients out of float16's range."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if len(self.kernels) == 2:
            self.model.optimizer.dynamic_scale.assign(2.0**100)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        if len(self.kernels) == 3:
            self.model.optimizer.dynamic_scale.assign(2.0**15)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_a_float16_run_survives_an_infinity(records: Path, tmp_path: Path) -> None:
    recorder = TooLargeScale()
    config = small_config(
        records, tmp_path / "run", "train.precision=mixed_float16",
        "train.optimizer.average=0.5", "train.phases=[{epochs: 3, augment: none}]",
    )  # fmt: skip
    try:
        run = train_with(recorder, config)
    finally:
        keras.config.set_dtype_policy("float32")
    kernels, scales = recorder.kernels, recorder.scales
    np.testing.assert_array_equal(kernels[2], kernels[1])
    assert scales[2] == 2.0**99
    assert all((one != two).any() for one, two in pairwise(kernels[2:]))
    assert len(kernels) == 6
    for weight in keras.saving.load_model(run / "model.keras").get_weights():
        assert np.isfinite(weight).all()
