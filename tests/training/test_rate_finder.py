from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from unet_keras.errors import InputError
from unet_keras.training.rate_finder import curve_of, draw_curve, find_rate


def problem() -> tuple[keras.Model, tf.data.Dataset]:
    """Linear regression: gradient descent solves it up to a rate that can be calculated."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 4)).astype("float32")
    y = x @ np.array([1.0, -2.0, 0.5, 3.0], "float32")[:, None]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    return model, tf.data.Dataset.from_tensors((x, y)).repeat()


def test_the_suggestion_is_below_the_rate_where_training_fails() -> None:
    model, data = problem()
    (x, _), *_ = data.take(1).as_numpy_iterator()
    steepest = float(np.linalg.eigvalsh(2 * x.T @ x / len(x)).max())
    curve = find_rate(model, data, steps=80, lowest=1e-4, highest=100.0)
    assert 0.02 / steepest < curve.suggestion < 2 / steepest
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) < 80, "it failed before"
    assert np.isfinite(curve.losses).all()


def test_losses_are_those_of_single_steps() -> None:
    model, data = problem()
    weights, losses = model.get_weights(), []
    curve = find_rate(model, data, steps=5, lowest=1e-3, highest=1e-2)
    model.set_weights(weights)
    for rate in curve.rates:
        model.optimizer.learning_rate = float(rate)
        x, y = next(iter(data))
        losses.append(float(np.mean((np.asarray(model(x)) - y.numpy()) ** 2)))
        model.train_on_batch(x, y)
    np.testing.assert_allclose(curve.losses, losses, rtol=1e-4)


def test_a_loss_that_is_no_number_from_the_start_is_told() -> None:
    model, data = problem()
    broken = data.map(lambda x, y: (x, y * np.nan))
    with pytest.raises(InputError, match="loss of the very first batch is no number"):
        find_rate(model, broken, steps=3)


def test_the_running_mean_of_a_constant_is_that_constant(tmp_path: Path) -> None:
    rates = np.geomspace(1e-3, 1, 10)
    curve = curve_of(rates, np.full(10, 2.0))
    np.testing.assert_allclose(curve.smoothed, 2.0)
    draw_curve(curve, tmp_path / "deep/curve.png")
    with Image.open(tmp_path / "deep/curve.png") as picture:
        assert picture.size == (770, 440)


def test_the_suggestion_is_a_tenth_of_the_best_rate() -> None:
    rates = np.geomspace(1e-6, 1, 61)
    losses = np.concatenate([np.full(20, 1.0), np.linspace(1, 0.2, 20), np.linspace(0.2, 3, 21)])
    curve = curve_of(rates, losses)
    assert curve.suggestion == pytest.approx(rates[np.argmin(curve.smoothed)] / 10)
