"""Compiled once, for weights that may still change and for those that will not."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from scipy.special import expit as sigmoid

from unet_keras.inference import compiling
from unet_keras.inference.compiling import compiled_prediction
from unet_keras.inference.tiling import predict_tiled
from unet_keras.model.unet import build_unet


def noise(rng, *shape, dtype=np.uint8):
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_compiled_once_for_all_sizes_and_following_the_weights(rng):
    model = build_unet(base_filters=2, depth=1, scale=255.0)
    traces = []
    call = model.call
    model.call = lambda *arguments, **options: traces.append(1) or call(*arguments, **options)
    for size in ((8, 8), (9, 31), (1, 1)):
        predict_tiled(model, noise(rng, *size))
    assert len(traces) == 1
    image = noise(rng, 8, 8)
    before = predict_tiled(model, image)
    model.get_layer("logits").bias.assign([3.0])
    after = predict_tiled(model, image)
    np.testing.assert_allclose(after, sigmoid(np.log(before / (1 - before)) + 3), atol=1e-4)


def test_compiled_prediction_takes_batches(same, rng):
    images = noise(rng, 3, 12, 16, 1)
    predict = compiled_prediction(same, images.dtype)
    for image, predicted in zip(images, predict(images), strict=True):
        np.testing.assert_allclose(predicted, predict_tiled(same, image), atol=1e-6)


KINDS = {
    "batch": {},
    "group": {"normalization": "group"},
    "valid, two classes": {"padding": "valid", "normalization": "none", "num_classes": 2},
    "half resolution": {"stride": 2},
    "distance map": {"regression_maps": 1, "num_classes": 3},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_fixed_weights_predict_the_same(make_model, rng, options, dtype):
    model = make_model(**options)
    for size in ((45, 38), (1, 1)):
        image = noise(rng, *size).astype(dtype)
        changing, fixed = (predict_tiled(model, image, fixed=value) for value in (False, True))
        np.testing.assert_allclose(fixed, changing, atol=1e-5)


def test_fixed_weights_predict_the_same_in_half_precision(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_unet(base_filters=2, depth=1, scale=255.0)
    finally:
        keras.config.set_dtype_policy("float32")
    image = noise(rng, 20, 30)
    changing, fixed = (predict_tiled(model, image, fixed=value) for value in (False, True))
    np.testing.assert_allclose(fixed, changing, atol=1e-2)


def test_fixed_weights_are_those_of_the_first_call(rng):
    model = build_unet(base_filters=2, depth=1, scale=255.0)
    image = noise(rng, 8, 8)
    before = predict_tiled(model, image, fixed=True)
    model.get_layer("logits").bias.assign([3.0])
    np.testing.assert_array_equal(predict_tiled(model, image, fixed=True), before)
    assert np.abs(predict_tiled(model, image) - before).max() > 0.1


def test_networks_too_large_for_one_graph_are_called_as_functions(rng, monkeypatch):
    monkeypatch.setattr(compiling, "LARGEST_FIXED_BYTES", 1000)
    monkeypatch.setattr(compiling, "_holding_its_weights", None)
    model = build_unet(base_filters=2, depth=1, scale=255.0)
    image = noise(rng, 8, 8)
    fixed = predict_tiled(model, image, fixed=True)
    np.testing.assert_array_equal(fixed, predict_tiled(model, image))


def test_threads_share_a_fixed_network(same, rng):
    images = [noise(rng, 16 + 3 * number, 40) for number in range(8)]
    expected = [predict_tiled(same, image, fixed=True) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: predict_tiled(same, image, fixed=True), images * 3))
    for one, other in zip(found, expected * 3, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_forgotten_network_is_freed(fixed):
    model = build_unet(base_filters=2, depth=1)
    predict_tiled(model, np.zeros((4, 4), np.uint8), fixed=fixed)
    watch = weakref.ref(model)
    assert model in compiling._compiled
    del model
    gc.collect()
    assert watch() is None
