"""The model, its losses and metrics in `compile` and `fit`, with nothing special from the user."""

import keras
import numpy as np
import pytest

from unet_keras.model.losses import MapRegression, SoftDice, WeightedCrossEntropy, WeightedSum
from unet_keras.model.metrics import Dice, IoU, LossPart
from unet_keras.model.unet import build_unet

pytestmark = pytest.mark.slow

SIZE = (14, 17)
LOSS_PARTS = ("weighted_cross_entropy", "soft_dice", "map_regression")


def bright_squares(count: int, maps: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return grey images with one bright square each, and the packed y."""
    random = np.random.default_rng(0)
    x = random.normal(100, 10, (count, *SIZE, 1)).astype("float32")
    y = np.zeros((count, *SIZE, 2 + maps), "float32")
    y[..., 1:-1] = 0.5
    y[..., -1] = random.uniform(0.5, 2, y.shape[:3])
    for image, target in zip(x, y, strict=True):
        top, left = random.integers(0, 8, 2)
        image[top : top + 9, left : left + 9] += 60
        target[top : top + 9, left : left + 9, 0] = 1
    return x, y


def compiled(num_classes: int = 1, regression_maps: int = 0, **options) -> keras.Model:
    model = build_unet(
        base_filters=4,
        depth=1,
        num_classes=num_classes,
        regression_maps=regression_maps,
        mean=100.0,
        scale=20.0,
    )
    parts = [WeightedCrossEntropy(), SoftDice()]
    parts += [MapRegression()] * bool(regression_maps)
    options = {"optimizer": keras.optimizers.Adam(0.01), **options}
    metrics = [Dice(), IoU(), *(LossPart(part) for part in parts)]
    model.compile(loss=WeightedSum(parts), metrics=metrics, **options)
    return model


@pytest.mark.parametrize(
    ("precision", "compiler"),
    [
        ("float32", False),
        ("mixed_float16", False),
        ("mixed_bfloat16", False),
        pytest.param("float32", True, marks=pytest.mark.slow),
        pytest.param("mixed_float16", True, marks=pytest.mark.full),
    ],
    indirect=["precision"],
)
def test_one_class_is_learned_in_every_precision(precision, compiler) -> None:
    model = compiled(jit_compile=compiler)
    history = model.fit(*bright_squares(8), batch_size=4, epochs=12, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert history.history["dice"][-1] > 0.9
    assert model.predict(bright_squares(1)[0], verbose=0).dtype == np.float32


def test_several_classes_and_a_map_are_learned() -> None:
    model = compiled(num_classes=2, regression_maps=1)
    x, y = bright_squares(8, maps=1)
    history = model.fit(x, y, batch_size=4, epochs=12, verbose=0, shuffle=False).history
    assert history["dice"][-1] > 0.9
    assert history["map_regression"][-1] < 0.5 * history["map_regression"][0]
    parts = sum(history[name][-1] for name in LOSS_PARTS)
    assert history["loss"][-1] == pytest.approx(parts, rel=1e-4)


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    x, y = bright_squares(4)
    weights = []
    for batch, steps in ((4, None), (2, 2)):
        model = build_unet(base_filters=2, depth=1, normalization="none", mean=100.0, scale=20.0)
        optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=steps)
        model.compile(optimizer, loss=WeightedCrossEntropy())
        model.fit(x, y, batch_size=batch, epochs=3, verbose=0, shuffle=False)
        weights.append(model.get_layer("up_1_conv_2").kernel.numpy())
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-5)


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_an_infinite_gradient_is_skipped(precision) -> None:
    model = compiled(run_eagerly=True)
    x, y = bright_squares(2)
    before = model.get_layer("logits").kernel.numpy()
    model.train_on_batch(np.full_like(x, np.inf), y)
    np.testing.assert_array_equal(model.get_layer("logits").kernel.numpy(), before)


def test_fit_repeats_exactly() -> None:
    outcomes = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = build_unet(base_filters=2, depth=1, dropout=0.2, mean=100.0, scale=20.0)
        model.compile("adam", loss=WeightedCrossEntropy(), run_eagerly=True)
        history = model.fit(*bright_squares(8), batch_size=4, epochs=2, verbose=0)
        outcomes.append(history.history["loss"])
    assert outcomes[0] == outcomes[1]


def test_stock_loss_with_weights_as_sample_weight() -> None:
    model = build_unet(base_filters=2, depth=1, mean=100.0, scale=20.0)
    model.compile("adam", loss=WeightedCrossEntropy("pixels"), metrics=[Dice()], run_eagerly=True)
    x, y = bright_squares(4)
    packed = model.evaluate(x, y, verbose=0, return_dict=True)
    apart = model.evaluate(x, y[..., 0], sample_weight=y[..., 1], verbose=0, return_dict=True)
    assert apart == pytest.approx(packed, rel=1e-5)
    model.compile("adam", loss=keras.losses.BinaryCrossentropy(from_logits=True), run_eagerly=True)
    stock = model.evaluate(x, y[..., :1], sample_weight=y[..., 1], verbose=0, return_dict=True)
    assert stock["loss"] == pytest.approx(packed["loss"], rel=1e-5)
