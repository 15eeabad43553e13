import warnings

import numpy as np
import pytest

from unet_keras.errors import InputError
from unet_keras.inference import tiling
from unet_keras.inference.tiling import predict_tiled
from unet_keras.model.geometry import geometry_of, valid_tile_sizes


def noise(rng, *shape):
    return rng.integers(0, 256, shape, np.uint8)


def whole_image(model, image):
    """Logits (H, W, K) of the whole image; for valid convolutions it is mirrored by NumPy."""
    batch = image.reshape(1, *image.shape[:2], -1).astype(np.float32)
    geometry = geometry_of(model)
    if geometry.padding == "valid":
        smallest = valid_tile_sizes(geometry.depth)[0]
        margin = geometry.margin_pixels
        pads = []
        for length in image.shape[:2]:
            window = smallest
            while window < length + 2 * margin:
                window += geometry.multiple_pixels
            pads.append((margin, window - length - margin))
        batch = np.pad(batch, [(0, 0), *pads, (0, 0)], mode="reflect")
    logits = np.asarray(model(batch, training=False))
    return logits[0, : image.shape[0], : image.shape[1]]


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("tile", [None, 16, 30, 64, (40, 200)])
@pytest.mark.parametrize("size", [(150, 131), (64, 64), (9, 170)])
def test_same_padded_tiles_equal_the_whole_image(same, rng, size, tile):
    image = noise(rng, *size)
    expected = sigmoid(whole_image(same, image))
    np.testing.assert_allclose(predict_tiled(same, image, tile=tile), expected, atol=1e-5)


@pytest.mark.parametrize("tile", [None, 7, 16, 50, 97, (20, 300)])
@pytest.mark.parametrize("size", [(60, 81), (1, 1), (3, 40)])
def test_valid_tiles_equal_the_mirrored_whole_image(valid, rng, size, tile):
    image = noise(rng, *size)
    expected = softmax(whole_image(valid, image))
    predicted = predict_tiled(valid, image, tile=tile, batch_size=8)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@pytest.mark.parametrize("tile", [1, 40, 97])
def test_tiles_of_a_strided_network_equal_the_whole_image(make_model, rng, tile):
    model = make_model(stride=2, num_classes=3)
    image = noise(rng, 150, 131)
    expected = softmax(whole_image(model, image))
    predicted = predict_tiled(model, image, tile=tile, batch_size=16)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_tiles_of_one_pixel(same, rng):
    image = noise(rng, 56, 60)
    expected = sigmoid(whole_image(same, image))
    np.testing.assert_allclose(predict_tiled(same, image, tile=1), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 4), (33, 43)])
def test_any_size_gives_its_own_size(same, rng, size):
    image = noise(rng, *size)
    predicted = predict_tiled(same, image)
    assert predicted.shape == (*size, 1)
    np.testing.assert_allclose(predicted, sigmoid(whole_image(same, image)), atol=1e-5)


def test_a_network_of_full_depth(make_model, rng):
    model = make_model(depth=4, base_filters=2)
    image = noise(rng, 300, 270)
    expected = sigmoid(whole_image(model, image))
    np.testing.assert_allclose(predict_tiled(model, image, tile=32), expected, atol=1e-5)


def test_the_halo_is_needed_in_full(same, rng):
    image = noise(rng, 160, 160)
    expected = predict_tiled(same, image)
    errors = [
        np.abs(predict_tiled(same, image, tile=32, halo=halo) - expected).max()
        for halo in (0, 8, 24)
    ]
    assert errors[0] > errors[1] > 1e-4
    assert errors[2] < 1e-5


def test_batches_of_tiles_change_nothing(same, rng):
    image = noise(rng, 100, 140)
    single = predict_tiled(same, image, tile=16)
    for batch_size in (3, 100):
        batched = predict_tiled(same, image, tile=16, batch_size=batch_size)
        np.testing.assert_allclose(batched, single, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
def test_types_are_taken_as_grey_values(same, rng, dtype):
    image = noise(rng, 20, 24)
    expected = predict_tiled(same, image)
    predicted = predict_tiled(same, image.astype(dtype)[..., None])
    assert predicted.dtype == np.float32
    np.testing.assert_array_equal(predicted, expected)


def test_colors_classes_and_maps(make_model, rng):
    model = make_model(input_channels=3, num_classes=3, regression_maps=2)
    image = noise(rng, 30, 41, 3)
    logits = whole_image(model, image)
    predicted = predict_tiled(model, image)
    np.testing.assert_allclose(predicted[..., :3], softmax(logits[..., :3]), atol=1e-5)
    np.testing.assert_allclose(predicted[..., 3:], logits[..., 3:], atol=1e-4)


def test_large_images_are_predicted_in_tiles(same, rng, monkeypatch):
    image = noise(rng, 90, 100)
    expected = predict_tiled(same, image)
    sizes = []
    compiled = tiling.compiled_prediction

    def spying(*arguments, **options):
        predict = compiled(*arguments, **options)
        return lambda batch: sizes.append(batch.shape) or predict(batch)

    monkeypatch.setattr(tiling, "compiled_prediction", spying)
    bytes_a_pixel = tiling.LIVE_MAPS * 4 * 4
    monkeypatch.setattr(tiling, "WHOLE_IMAGE_BYTES", 90 * 100 * bytes_a_pixel - 1)
    monkeypatch.setattr(tiling, "WINDOW_BYTES", 80 * 80 * bytes_a_pixel)
    np.testing.assert_allclose(predict_tiled(same, image), expected, atol=1e-5)
    assert len(sizes) == 4
    assert max(height * width for _, height, width, _ in sizes) <= 80 * 80


def test_memory_maps_go_in_and_out(same, rng, tmp_path):
    image = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.uint8, (70, 90))
    image[:] = noise(rng, 70, 90)
    output = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, (70, 90, 1))
    returned = predict_tiled(same, image, tile=16, output=output)
    assert returned is output
    np.testing.assert_allclose(output, predict_tiled(same, np.array(image)), atol=1e-5)


def test_group_normalization_warns_of_tiles(make_model, rng):
    model = make_model(normalization="group")
    image = noise(rng, 64, 80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_tiled(model, image)
    with pytest.warns(UserWarning, match="statistics from each tile"):
        predict_tiled(model, image, tile=16)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8, 3), {}, r"\(8, 8, 3\), 3 channels, but the network takes 1"),
        ((8,), {}, r"shape \(8,\), expected \(H, W\)"),
        ((2, 8, 8, 1), {}, r"shape \(2, 8, 8, 1\), expected \(H, W\)"),
        ((0, 8), {}, r"shape \(0, 8\)"),
        ((8, 8), {"tile": 0}, "tile=0 must be at least 1"),
        ((8, 8), {"tile": 8, "halo": -1}, "halo=-1"),
        ((8, 8), {"output": np.zeros((8, 8), np.float32)}, r"expected float32 \(8, 8, 1\)"),
    ],
)
def test_errors_say_what_came(same, shape, options, message):
    with pytest.raises(InputError, match=message):
        predict_tiled(same, np.zeros(shape, np.uint8), **options)


def test_only_numbers_make_an_image(same):
    with pytest.raises(InputError, match="type <U1"):
        predict_tiled(same, np.array([["a"]]))


def test_a_halo_is_not_for_valid_convolutions(valid):
    with pytest.raises(InputError, match="margin of 20 pixels"):
        predict_tiled(valid, np.zeros((8, 8), np.uint8), tile=8, halo=16)


def test_blended_tiles_share_each_pixel_and_come_nearer_to_the_whole_image(same, rng):
    image = noise(rng, 150, 131)
    expected = predict_tiled(same, image)
    # With all the context, every tile is right, and so is each mixture of them.
    blended = predict_tiled(same, image, tile=32, blend=12)
    np.testing.assert_allclose(blended, expected, atol=1e-5)
    errors = [
        np.abs(predict_tiled(same, image, tile=32, halo=8, blend=blend) - expected).mean()
        for blend in (0, 4)
    ]
    assert 0 < errors[1] < 1.5 * errors[0]
    steps = []
    for blend in (0, 8):
        wrong = predict_tiled(same, image, tile=32, halo=8, blend=blend) - expected
        steps.append(np.abs(np.diff(wrong[..., 0], axis=0)).max())
    assert steps[1] < steps[0]


def test_blended_probabilities_stay_probabilities(bright):
    """The shares of a pixel add up to one but for rounding."""
    image = np.full((300, 300), 255, np.uint8)
    for blend in (16, 24, 48):
        blended = predict_tiled(bright, image, tile=100, halo=16, blend=blend)
        assert blended.max() <= 1


def test_a_blend_that_cannot_be(same, valid):
    image = np.zeros((64, 64), np.uint8)
    with pytest.raises(InputError, match="blend=-1 must be at least 0 pixels"):
        predict_tiled(same, image, tile=16, halo=8, blend=-1)
    with pytest.raises(InputError, match="halo=-4 must be at least 0 pixels"):
        predict_tiled(same, image, tile=16, halo=-4, blend=8)
    for size in (0, -1):
        with pytest.raises(InputError, match=f"batch_size={size} must be at least 1 tile"):
            predict_tiled(same, image, tile=16, batch_size=size)
    with pytest.raises(InputError, match="blend=4 is for same-padded"):
        predict_tiled(valid, image, tile=16, blend=4)
