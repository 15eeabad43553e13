import csv
import io
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from tests.training.runs import points, small_config
from unet_keras.training import fit, panels
from unet_keras.training.board import Board, leaves_of, tag_of
from unet_keras.training.computation import FreeInput
from unet_keras.training.panels import (
    foreground_probability,
    precision_recall,
    training_panel,
    validation_panel,
)
from unet_keras.training.speed import Speed


def numbers(values: list[tuple[int, bytes]]) -> dict[int, float]:
    return {
        step: float(tf.make_ndarray(TensorProto.FromString(content))) for step, content in values
    }


@pytest.fixture
def run(watched: Path) -> Path:
    return watched


@pytest.mark.slow
def test_every_figure_of_the_history_is_a_curve(run: Path) -> None:
    train, validation = (points(run / "tensorboard" / side) for side in ("train", "validation"))
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    figures = set(rows[0]) - {"epoch", "phase", "learning_rate"}
    parts = {"weighted_cross_entropy", "soft_dice", "loss", "dice", "iou"}
    assert figures == parts | {f"val_{name}" for name in parts}
    for name in figures:
        side = validation if name.startswith("val_") else train
        drawn = numbers(side[tag_of(name.removeprefix("val_"))])
        wanted = {int(row["epoch"]): pytest.approx(float(row[name])) for row in rows}
        assert drawn == wanted, name
    rates = {int(row["epoch"]): pytest.approx(float(row["learning_rate"])) for row in rows}
    assert numbers(train["schedule/learning_rate"]) == rates
    assert set(numbers(train["schedule/loss_scale"])) == {1, 2, 3}
    assert all(value > 0 for value in numbers(train["speed/images_per_second"]).values())
    assert all(0 <= value <= 1 for value in numbers(train["speed/input_wait_share"]).values())


@pytest.mark.slow
def test_panels_come_every_so_many_epochs_and_at_the_end(run: Path) -> None:
    shown = points(run / "tensorboard/validation")
    assert [step for step, _ in shown["panel"]] == [2, 3]
    assert [step for step, _ in shown["precision_recall/pr_curves"]] == [2, 3]
    samples = points(run / "tensorboard/train")["samples"]
    assert [step for step, _ in samples] == [2, 3]
    png = TensorProto.FromString(samples[0][1]).string_val[2]
    picture = np.array(Image.open(io.BytesIO(png)))
    assert picture.shape[0] > 2 * 32
    assert picture.shape[1] > 3 * 32


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_samples_are_transformed_ones_where_plain_ones_come_between(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []

    def draw(images: np.ndarray, y: np.ndarray) -> np.ndarray:
        drawn.append(images)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(panels, "training_panel", draw)
    config = small_config(
        records, tmp_path / "run", "train.panel_epochs=1",
        "train.phases=[{epochs: 1, augment: none}, {epochs: 1, augment: append}]",
    )  # fmt: skip
    fit.train(config)
    stretches = fit.plan(config, 2)
    plain = fit.training_data(config, stretches[0], start_step=0, margin=0)
    moved = fit.training_data(config, stretches[1], start_step=2, phase_step=0, margin=0).skip(1)
    for shown, data in zip(drawn, (plain, moved), strict=True):
        np.testing.assert_array_equal(shown, next(iter(data))[0])


@pytest.mark.slow
def test_config_hyperparameters_and_profile_are_there(run: Path) -> None:
    shown = points(run / "tensorboard")
    text = TensorProto.FromString(shown["config"][0][1]).string_val[0].decode()
    assert (run / "config.yaml").read_text() in text
    assert "_hparams_/session_start_info" in shown
    assert list((run / "tensorboard/plugins/profile").rglob("*.xplane.pb"))


def test_hyperparameters_are_plain_values() -> None:
    values = {"seed": 3, "loss": {"dice": 0.5, "class_weights": [1, 2]}, "train": {"x": None}}
    assert leaves_of(values) == {
        "seed": 3, "loss.dice": 0.5, "loss.class_weights": "[1, 2]", "train.x": "None",
    }  # fmt: skip


def packed(truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.stack([truth, weight], axis=-1).astype("float32")


def test_precision_and_recall_are_those_of_each_threshold() -> None:
    random = np.random.default_rng(0)
    truth, probability = random.random((2, 20, 30)) > 0.6, random.random((2, 20, 30))
    probability = np.round(probability, 3).astype("float32") + np.float32(1e-4)
    weight = (random.random(truth.shape) > 0.2) * 3.0
    summary = tf.compat.v1.Summary.FromString(precision_recall(packed(truth, weight), probability))
    table = tf.make_ndarray(summary.value[0].tensor)
    counted = weight > 0
    for index in (0, 25, 50, 99):
        chosen = (probability >= index / 100) & counted
        hits = (chosen & truth).sum()
        assert table[0, index] == hits
        assert table[4, index] == pytest.approx(hits / chosen.sum())
        assert table[5, index] == pytest.approx(hits / (truth & counted).sum())


def test_panels_have_a_row_an_image_and_fit_smaller_targets() -> None:
    random = np.random.default_rng(0)
    images = random.random((2, 60, 60, 1), "float32")
    target = packed(random.random((2, 40, 40)) > 0.5, random.random((2, 40, 40)))
    picture = validation_panel(images, target, random.random((2, 40, 40)))
    assert picture.dtype == np.uint8
    assert picture.shape[0] >= 2 * 40
    assert picture.shape[1] >= 5 * 40
    assert training_panel(images, target).shape[1] < picture.shape[1]


def test_foreground_is_all_that_is_not_background() -> None:
    one, three = np.array([[[[0.0]]]]), np.log([[[[0.2, 0.3, 0.5]]]])
    np.testing.assert_allclose(foreground_probability(one), 0.5)
    np.testing.assert_allclose(foreground_probability(three), 0.8, rtol=1e-6)


def waiting_share(seconds_of_input: float, seconds_of_step: float) -> float:
    """Fit a model whose input and whose steps take as long as asked for."""

    def slow(seconds: float) -> tf.Tensor:
        return tf.py_function(lambda: _sleep(seconds), [], tf.float64)

    class Sleeper(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return x + tf.ensure_shape(tf.cast(slow(seconds_of_step), x.dtype), [])

    data = tf.data.Dataset.range(100).map(lambda n: tf.cast(n, tf.float32) + tf.ones([2, 1]))
    data = data.map(lambda x: (x + tf.cast(slow(seconds_of_input), tf.float32), tf.ones([2, 1])))
    model = keras.Sequential([keras.Input((1,)), Sleeper(), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", run_eagerly=True)
    speed = Speed(batch_size=2, kept_step=1)
    model.fit(data, steps_per_epoch=5, epochs=2, verbose=0, callbacks=[speed], shuffle=False)
    assert speed.kept_batch is not None
    assert float(speed.kept_batch[0][0, 0]) == 7.0, "the second epoch's second batch"
    return speed.figures["input_wait_share"]


def _sleep(seconds: float) -> float:
    time.sleep(seconds)
    return 0.0


@pytest.mark.slow
def test_waiting_for_input_is_told_from_computing() -> None:
    assert waiting_share(0.2, 0.0) > 0.5
    assert waiting_share(0.0, 0.2) < 0.5


def test_input_is_free_only_while_iterators_are_made() -> None:
    from tensorflow.python.framework import config as switch

    was_on = switch.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        free, seen = FreeInput(), []
        for event in ("on_epoch_begin", "on_train_batch_begin", "on_train_batch_begin",
                      "on_test_begin", "on_test_batch_begin"):  # fmt: skip
            getattr(free, event)(*([0] if event != "on_test_begin" else []))
            seen.append(switch.is_op_determinism_enabled())
        assert seen == [False, True, True, False, True]
    finally:
        if not was_on:
            switch.disable_op_determinism()


def test_the_board_writes_when_told(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.scalar("train", "loss/total", 0.5, 1)
    board.picture("validation", "panel", np.zeros((4, 4, 3), np.uint8), 1)
    board.flush()
    assert numbers(points(tmp_path / "train")["loss/total"]) == {1: 0.5}
    assert "panel" in points(tmp_path / "validation")
