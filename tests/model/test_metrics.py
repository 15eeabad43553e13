import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_keras.model.losses import SoftDice, soft_dice
from unet_keras.model.metrics import Dice, IoU, LossPart


def pack(index, weight) -> np.ndarray:
    return np.stack([index, np.broadcast_to(weight, index.shape)], -1).astype("float32")


def logits_of(prediction: np.ndarray, classes: int) -> np.ndarray:
    """Return logits whose decision is the given class map."""
    if classes == 1:
        return np.where(prediction, 0.01, -0.01)[..., None].astype("float32")
    return np.eye(classes, dtype="float32")[prediction] - 5


def random_maps(classes: int, batch: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    truth, prediction = random.integers(0, max(classes, 2), (2, batch, 6, 7))
    return truth, prediction, random.integers(0, 3, truth.shape)


def update(metric, truth, prediction, weight, classes: int) -> float:
    metric.update_state(pack(truth, weight), logits_of(prediction, classes))
    return float(metric.result())


def test_both_against_counting() -> None:
    truth, prediction, weight = random_maps(1)
    inside = weight > 0
    both = (truth & prediction)[inside].sum()
    sizes = truth[inside].sum() + prediction[inside].sum()
    assert update(Dice(), truth, prediction, weight, 1) == pytest.approx(2 * both / sizes)
    assert update(IoU(), truth, prediction, weight, 1) == pytest.approx(both / (sizes - both))


def test_several_classes_together_and_one_by_one() -> None:
    truth, prediction, _ = random_maps(4)
    hits = ((truth == prediction) & (truth > 0)).sum()
    sizes = (truth > 0).sum() + (prediction > 0).sum()
    assert update(Dice(), truth, prediction, 1, 4) == pytest.approx(2 * hits / sizes)
    hits = ((truth == 2) & (prediction == 2)).sum()
    union = ((truth == 2) | (prediction == 2)).sum()
    assert update(IoU(class_index=2), truth, prediction, 1, 4) == pytest.approx(hits / union)


def test_joined_classes_are_foreground_where_their_probabilities_add_up() -> None:
    truth = np.array([[[0, 1, 2, 2]]])
    # 0.4 of background; 0.6 of two others of which neither is the likeliest; and so on.
    probabilities = np.array([[[[0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0, 0, 1]]]])
    metric = Dice(joined=True)
    metric.update_state(pack(truth, 1), np.log(probabilities + 1e-9).astype("float32"))
    assert float(metric.result()) == pytest.approx(2 * 2 / (3 + 3))
    apart = Dice()
    apart.update_state(pack(truth, 1), np.log(probabilities + 1e-9).astype("float32"))
    assert float(apart.result()) == pytest.approx(2 * 1 / (3 + 2))


@pytest.mark.parametrize("metric", [Dice, IoU])
def test_batches_add_up_and_reset_forgets(metric) -> None:
    truth, prediction, weight = random_maps(1)
    whole = update(metric(), truth, prediction, weight, 1)
    parts = metric()
    update(parts, truth[:1], prediction[:1], weight[:1], 1)
    assert update(parts, truth[1:], prediction[1:], weight[1:], 1) == whole
    parts.reset_state()
    assert update(parts, truth, prediction, weight, 1) == whole


@pytest.mark.parametrize("metric", [Dice, IoU])
def test_nothing_to_find_and_nothing_found_is_right(metric) -> None:
    empty = np.zeros((1, 3, 3), int)
    assert float(metric().result()) == 1
    assert update(metric(), empty, empty, 1, 1) == 1
    assert update(metric(), empty, empty + 1, 1, 1) == 0
    assert update(metric(), empty + 1, empty, 1, 1) == 0


def test_counts_stay_exact_beyond_what_float32_can_count() -> None:
    metric = Dice()
    metric.both.assign(2**24)
    metric.predicted.assign(2**24)
    metric.true.assign(2**24)
    update(metric, np.ones((1, 1, 1), int), np.ones((1, 1, 1), int), 1, 1)
    assert int(metric.both) == 2**24 + 1


def test_a_plain_class_map_and_a_weight_map_as_sample_weight() -> None:
    truth, prediction, weight = random_maps(1)
    packed, plain = Dice(), Dice()
    expected = update(packed, truth, prediction, weight, 1)
    plain.update_state(truth, logits_of(prediction, 1), weight)
    assert float(plain.result()) == expected


def test_images_of_weight_0_do_not_count() -> None:
    truth, prediction, weight = random_maps(1)
    y, logits = pack(truth, weight), logits_of(prediction, 1)
    chosen = np.arange(len(y)) % 2
    for metric in (Dice, IoU, lambda: LossPart(SoftDice())):
        all_images, some = metric(), metric()
        all_images.update_state(y, logits, chosen)
        some.update_state(y[chosen == 1], logits[chosen == 1])
        assert float(all_images.result()) == pytest.approx(float(some.result()), rel=1e-6)


def test_loss_part_weighs_pixels_by_a_map() -> None:
    truth, prediction, weight = random_maps(1)
    logits, packed, apart = logits_of(prediction, 1), LossPart(SoftDice()), LossPart(SoftDice())
    packed.update_state(pack(truth, weight), logits)
    apart.update_state(truth, logits, weight)
    assert float(apart.result()) == pytest.approx(float(packed.result()), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits(dtype) -> None:
    truth, prediction, weight = random_maps(1)
    metric = Dice()
    metric.update_state(pack(truth, weight), tf.cast(logits_of(prediction, 1), dtype))
    assert float(metric.result()) == update(Dice(), truth, prediction, weight, 1)


def test_xla_counts_alike() -> None:
    truth, prediction, weight = random_maps(3)
    metric = IoU()
    compiled = tf.function(metric.update_state, jit_compile=True)
    compiled(tf.constant(pack(truth, weight)), tf.constant(logits_of(prediction, 3)))
    assert float(metric.result()) == update(IoU(), truth, prediction, weight, 3)


def test_loss_part_is_the_mean_over_images() -> None:
    truth, prediction, weight = random_maps(1)
    y, logits = pack(truth, weight), logits_of(prediction, 1)
    part = LossPart(SoftDice())
    part.update_state(y[:3], logits[:3])
    part.update_state(y[3:], logits[3:])
    assert part.name == "soft_dice"
    assert float(part.result()) == pytest.approx(soft_dice(y, logits).numpy().mean(), rel=1e-6)


@pytest.mark.parametrize(
    "metric", [Dice(joined=True), IoU(class_index=2, name="cells"), LossPart(SoftDice(0.5))]
)
def test_configuration_survives_a_round_trip(metric) -> None:
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_the_background_is_no_class_to_score() -> None:
    with pytest.raises(ValueError, match="class_index=0 must be at least 1"):
        Dice(class_index=0)
    with pytest.raises(ValueError, match="None with joined=True"):
        IoU(class_index=1, joined=True)


@pytest.mark.parametrize(("channels", "beyond"), [(1, 2), (2, 2), (3, 3)])
def test_a_class_that_the_network_does_not_have_is_refused(channels: int, beyond: int) -> None:
    metric = Dice(class_index=beyond)
    with pytest.raises(ValueError, match=f"class_index={beyond} must be below {max(channels, 2)}"):
        metric.update_state(np.zeros((1, 4, 4, 2)), np.zeros((1, 4, 4, channels)))
