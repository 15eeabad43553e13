import keras
import numpy as np
import pytest

from unet_keras.model.geometry import check_tile, smallest_tile, valid_margin
from unet_keras.model.unet import UNetGeometry, build_unet, geometry_of, valid_tile_sizes


def sizes_by_trial(depth: int, largest: int) -> list[int]:
    """Follow each size through the layers of Ronneberger et al. 2015, fig. 1."""
    return [size for size in range(1, largest + 1) if output_size(size, depth) > 0]


def output_size(size: int, depth: int) -> int:
    for _ in range(depth):
        size -= 4
        if size < 2 or size % 2:
            return 0
        size //= 2
    size -= 4
    for _ in range(depth):
        if size < 1:
            return 0
        size = 2 * size - 4
    return size


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_valid_tile_sizes_are_those_that_pass_through(depth: int) -> None:
    assert valid_tile_sizes(depth, largest=800) == sizes_by_trial(depth, 800)


def test_the_tile_of_2015_is_valid() -> None:
    assert 572 in valid_tile_sizes(4)
    assert output_size(572, 4) == 388
    assert valid_tile_sizes(4, largest=10) == [smallest_tile(4)] == [188]


@pytest.mark.parametrize(
    ("size", "nearest"), [(570, "556 and 572"), (573, "572 and 588"), (100, "188."), (1, "188.")]
)
def test_a_wrong_tile_is_told_the_nearest_right_ones(size: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"tile of {size} pixels .* Nearest: {nearest}"):
        check_tile(size, 4)


def test_depth_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="depth=0 must be at least 1"):
        valid_tile_sizes(0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_valid_geometry(depth: int) -> None:
    model = build_unet(depth=depth, base_filters=1, padding="valid", normalization="none")
    geometry = geometry_of(model)
    tile = valid_tile_sizes(depth)[0]
    assert (geometry.depth, geometry.padding) == (depth, "valid")
    assert geometry.multiple_pixels == 2**depth
    assert tile - 2 * geometry.margin_pixels == output_size(tile, depth)
    assert geometry.margin_pixels == valid_margin(depth) == {1: 8, 2: 20, 3: 44, 4: 92}[depth]


def test_same_geometry_survives_saving(tmp_path) -> None:
    model = build_unet(depth=3, base_filters=1, normalization="group", dropout=0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert geometry_of(loaded) == geometry_of(model)
    assert geometry_of(model) == UNetGeometry(3, "same", 0, 8, 44 + 7)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 43)])
def test_a_stride_keeps_the_size_of_images(size) -> None:
    model = build_unet(depth=2, base_filters=2, stride=2, num_classes=3)
    assert geometry_of(model).multiple_pixels == 8
    assert model(np.zeros((1, *size, 1), "float32")).shape == (1, *size, 3)


def test_a_stride_is_not_for_valid_convolutions() -> None:
    with pytest.raises(ValueError, match="stride=2 needs padding='same'"):
        build_unet(padding="valid", stride=2)


def test_geometry_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="Dense is no functional Keras model"):
        geometry_of(keras.layers.Dense(1))


def open_every_path(model: keras.Model) -> None:
    """Make all weights positive, so that no ReLU and no cancellation hides a dependence."""
    for weight in model.trainable_weights:
        weight.assign(np.full(weight.shape, 1.0 / np.prod(weight.shape[:-1])))


@pytest.mark.parametrize(
    ("padding", "depth", "stride"),
    [
        ("same", 2, 1),
        ("same", 3, 1),
        ("valid", 2, 1),
        ("same", 1, 2),
        ("same", 2, 2),
        ("same", 1, 3),
    ],
)
def test_a_pixel_moves_outputs_exactly_as_far_as_the_receptive_field(
    padding, depth, stride
) -> None:
    model = build_unet(
        depth=depth, base_filters=1, padding=padding, normalization="none", stride=stride
    )
    open_every_path(model)
    geometry = geometry_of(model)
    radius, step = geometry.receptive_pixels, geometry.multiple_pixels
    needed = 2 * (radius + geometry.margin_pixels + 2 * step)
    sizes = valid_tile_sizes(depth) if padding == "valid" else range(0, 10000, step)
    size = next(n for n in sizes if n > needed)
    center = size // 2 // step * step
    # One place for every phase of the pooling grid; rows are enough, columns are alike.
    images = np.zeros((step + 1, size, size, 1), "float32")
    for phase in range(step):
        images[phase + 1, center + phase, center] = 1e6
    outputs = model.predict(images, verbose=0)
    reached = 0
    for phase in range(step):
        rows = np.flatnonzero((outputs[phase + 1] != outputs[0]).any(axis=(1, 2)))
        places = rows + geometry.margin_pixels - (center + phase)
        reached = max(reached, -places.min(), places.max())
    assert reached == radius


@pytest.mark.parametrize(("padding", "stride"), [("same", 1), ("same", 2), ("valid", 1)])
def test_shifting_by_the_multiple_shifts_the_output(padding, stride) -> None:
    model = build_unet(depth=2, base_filters=2, padding=padding, stride=stride)
    geometry = geometry_of(model)
    step, reach = geometry.multiple_pixels, geometry.receptive_pixels
    sizes = valid_tile_sizes(2) if padding == "valid" else range(0, 10000, step)
    size = next(n for n in sizes if n > 2 * reach + 4 * step)
    image = np.random.default_rng(0).random((1, size + step, size + step, 1), "float32")
    first = model(image[:, :size, :size])
    second = model(image[:, step:, step:])
    margin = 0 if padding == "valid" else reach
    inner = slice(margin, first.shape[1] - step - margin)
    shifted = slice(margin + step, first.shape[1] - margin)
    np.testing.assert_allclose(first[:, shifted, shifted], second[:, inner, inner], atol=1e-5)
