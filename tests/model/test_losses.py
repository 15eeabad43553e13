from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_keras.model.losses import (
    MapRegression,
    SoftDice,
    WeightedCrossEntropy,
    WeightedSum,
    soft_dice,
    weighted_cross_entropy,
)

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "losses.npz"))
LOSSES = [
    WeightedCrossEntropy(),
    WeightedCrossEntropy("pixels"),
    WeightedCrossEntropy("none"),
    SoftDice(),
    WeightedSum([WeightedCrossEntropy(), SoftDice(0.1)], [0.5, 2]),
]
NAMES = ["weights", "pixels", "none", "dice", "sum"]


def pack(index, weight, *maps) -> np.ndarray:
    channels = [np.broadcast_to(part, index.shape) for part in (index, *maps, weight)]
    return np.stack(channels, axis=-1).astype("float32")


def assert_near(value, expected) -> None:
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def value_and_gradient(loss, y, logits) -> tuple[np.ndarray, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(y, logits)
    return value.numpy(), tape.gradient(value, logits).numpy()


def random_case(classes: int, size=(9, 11), batch: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return y and logits, a fifth of the weights zero."""
    random = np.random.default_rng(7)
    index = random.integers(0, max(classes, 2), (batch, *size))
    weight = random.uniform(0, 5, index.shape) * (random.random(index.shape) > 0.2)
    return pack(index, weight), random.normal(0, 3, (*index.shape, classes)).astype("float32")


@pytest.mark.parametrize("kind", ["binary", "several"])
@pytest.mark.parametrize("normalize", ["weights", "pixels", "none"])
def test_cross_entropy_equals_pytorch(kind, normalize) -> None:
    y = pack(GOLDEN[f"{kind}_index"], GOLDEN["weight"])
    logits, name = GOLDEN[f"{kind}_logits"], f"{kind}_{normalize}"
    values = weighted_cross_entropy(y, logits, normalize)
    np.testing.assert_allclose(values, GOLDEN[f"{name}_value"], rtol=1e-5)
    value, gradient = value_and_gradient(WeightedCrossEntropy(normalize), y, logits)
    assert_near(value, GOLDEN[f"{name}_value"].mean())
    np.testing.assert_allclose(gradient, GOLDEN[f"{name}_gradient"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "several"])
def test_soft_dice_equals_monai(kind) -> None:
    y, logits = pack(GOLDEN[f"{kind}_index"], 3.0), GOLDEN[f"{kind}_logits"]
    values = soft_dice(y, logits)
    np.testing.assert_allclose(values, GOLDEN[f"{kind}_dice_value"], rtol=1e-5)
    _, gradient = value_and_gradient(SoftDice(), y, logits)
    np.testing.assert_allclose(gradient, GOLDEN[f"{kind}_dice_gradient"], rtol=1e-5, atol=1e-7)


def test_a_plain_class_map_weighs_one() -> None:
    y, logits = random_case(1)
    y[..., 1] = 1.0
    for plain in (y[..., 0], y[..., :1], y[..., 0].astype("uint8")):
        for loss in LOSSES:
            assert_near(loss(plain, logits), loss(y, logits))


def test_soft_dice_ignores_the_size_of_the_weights() -> None:
    y, logits = random_case(3)
    heavier = y * [1.0, 7.0]
    np.testing.assert_allclose(soft_dice(heavier, logits), soft_dice(y, logits), rtol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("loss", [LOSSES[0], *LOSSES[2:]], ids=[NAMES[0], *NAMES[2:]])
def test_weight_zero_is_the_same_as_not_being_there(loss, classes) -> None:
    y, logits = random_case(classes)
    y[:, 4:, :, 1] = 0.0
    assert_near(loss(y, logits), loss(y[:, :4], logits[:, :4]))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_no_gradient_where_the_weight_is_zero(loss, classes) -> None:
    y, logits = random_case(classes)
    nowhere = y[..., 1] == 0
    y[nowhere, 0] = 255
    logits[nowhere] = np.inf
    value, gradient = value_and_gradient(loss, y, logits)
    assert np.isfinite(value)
    assert (gradient[nowhere] == 0).all()
    assert (gradient[~nowhere] != 0).any()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@pytest.mark.parametrize("weight", [0.0, 1e-30, 1e4])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extremes_are_finite(loss, classes, weight, index, logit) -> None:
    y = pack(np.full((1, 4, 4), index), weight)
    logits = np.full((1, 4, 4, classes), logit, "float32")
    logits[..., 1:] *= -1
    value, gradient = value_and_gradient(loss, y, logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if weight == 0 and not isinstance(loss, SoftDice | WeightedSum):
        assert value == 0


def test_the_gradient_at_logit_zero_is_one_half() -> None:
    y, logits = pack(np.array([[[0, 1]]]), 1.0), np.zeros((1, 1, 2, 1), "float32")
    _, gradient = value_and_gradient(WeightedCrossEntropy("none"), y, logits)
    np.testing.assert_allclose(np.ravel(gradient), [0.5, -0.5])


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_large_float16_images_do_not_overflow(loss) -> None:
    index = np.zeros((1, 2048, 2048), "uint8")
    index[:, ::2] = 1
    logits = np.where(index, -8, 8)[..., None].astype("float16")
    value, gradient = value_and_gradient(loss, index, logits)
    assert value.dtype == np.float32
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_a_perfect_and_an_empty_prediction_cost_nothing() -> None:
    y = pack(np.indices((1, 8, 8))[2] % 2, 2.0)
    perfect = (y[..., :1] - 0.5) * 80
    for loss in LOSSES:
        assert_near(loss(y, perfect), 0)
        assert_near(loss(y * [0, 1], np.full_like(perfect, -40)), 0)


def test_each_image_counts_alike_however_much_it_weighs() -> None:
    y, logits = random_case(1)
    y[1, ..., 1] *= 100
    images = [LOSSES[0](y[i : i + 1], logits[i : i + 1]) for i in (0, 1)]
    assert_near(LOSSES[0](y, logits), np.mean(images))


def test_one_logit_takes_any_class_for_foreground() -> None:
    y, logits = random_case(1)
    several = y * [3, 1]
    assert SoftDice()(several, logits) == SoftDice()(y, logits)
    assert WeightedCrossEntropy()(several, logits) == WeightedCrossEntropy()(y, logits)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_class_that_the_network_does_not_know_is_no_number(compiled) -> None:
    """It would be learned as background, and nobody would see it."""
    index = np.zeros((2, 4, 4, 2), np.float32)
    index[..., 1] = 1
    index[0, 1, 1, 0] = 2
    loss = tf.function(soft_dice, jit_compile=compiled)
    found = loss(tf.constant(index), tf.zeros((2, 4, 4, 2))).numpy()
    assert np.isnan(found).tolist() == [True, False]
    index[0, 1, 1, 1] = 0
    assert np.isfinite(loss(tf.constant(index), tf.zeros((2, 4, 4, 2)))).all()


def test_maps_and_classes_find_their_channels() -> None:
    y, logits = random_case(3)
    maps = np.random.default_rng(1).random((2, *y.shape[:3]))
    packed = pack(y[..., 0], y[..., 1], *maps)
    with_maps = np.concatenate([logits, np.moveaxis(maps, 0, -1) + 0.5], -1).astype("float32")
    for loss in LOSSES:
        assert_near(loss(packed, with_maps), loss(y, logits))
    assert_near(MapRegression()(packed, with_maps), 0.5**2 / 2)
    assert_near(MapRegression(delta=0.1)(packed, with_maps), 0.5 - 0.05)


def test_sample_weight_per_image_and_per_pixel() -> None:
    y, logits = random_case(1)
    loss = WeightedCrossEntropy()
    images = weighted_cross_entropy(y, logits).numpy()
    assert_near(loss(y, logits, np.array([1.0, 3.0])), images @ [1, 3] / 2)
    plain, weight = y[..., 0], y[..., 1]
    assert_near(loss(plain, logits, weight), loss(y, logits))
    halves = pack(plain, weight**0.5)
    assert_near(loss(halves, logits, weight[..., None] ** 0.5), loss(y, logits))


@pytest.mark.parametrize("classes", [1, 3])
def test_xla_gives_the_same(classes) -> None:
    y, logits = random_case(classes)
    for loss in LOSSES:
        compiled = tf.function(loss, jit_compile=True)
        assert_near(compiled(y, tf.constant(logits)), loss(y, logits))


@pytest.mark.parametrize("loss", [*LOSSES, MapRegression("pixels", 0.5)], ids=[*NAMES, "maps"])
def test_configuration_survives_a_round_trip(loss) -> None:
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("y", "logits", "message"),
    [
        ((1, 4, 4, 2), (1, 4, 4), "expected .B, H, W, 2.T. or"),
        ((4, 4), (1, 4, 4, 1), "expected .B, H, W, 2.T. or"),
        ((1, 6, 6, 2), (1, 4, 4, 1), "valid convolutions gives the center of its tile"),
        ((1, 4, 4, 4), (1, 4, 4, 2), "Build the network with regression_maps=2"),
    ],
)
def test_shapes_that_do_not_belong_together_are_explained(y, logits, message) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedCrossEntropy()(np.zeros(y), np.zeros(logits))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedCrossEntropy("mean"), "normalize='mean' must be one of weights, pixels"),
        (lambda: SoftDice(0), "smooth=0 must be above 0"),
        (lambda: MapRegression(delta=-1), "delta=-1 must be above 0"),
        (lambda: WeightedSum([]), "0 losses came with factors="),
        (lambda: WeightedSum([SoftDice()], [1, 2]), r"1 losses came with factors=\[1.0, 2.0\]"),
        (lambda: WeightedSum([SoftDice()], [-1]), "one factor that is at least 0"),
        (lambda: WeightedSum([keras.losses.Dice()]), "stock losses do not know the packed y"),
        (
            lambda: MapRegression()(np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 1))),
            "no regression maps between class index and weight",
        ),
    ],
)
def test_unknown_values_are_explained(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
