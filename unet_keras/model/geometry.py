"""What a U-Net does to sizes and how far it sees, read off its layers.

Every tensor of the network has a grid: element p of a row depends on the input pixels
[p · step + first, p · step + last] and on no others. Walking the layers in order yields these
numbers for the output, and with them margin, receptive field and the sizes that fit.
"""

from dataclasses import dataclass
from math import lcm
from typing import Literal
from weakref import WeakKeyDictionary

import keras
from keras import layers

# The layer that gives the regression maps.
MAPS = "maps"


@dataclass(frozen=True)
class UNetGeometry:
    """Sizes of a U-Net, in pixels of its input.

    Attributes:
        depth: How often it halves the image.
        padding: `valid` if its convolutions lose pixels at the border, else `same`.
        margin_pixels: What the output lacks on each side: 92 for `valid` at depth 4, 0 for `same`.
        multiple_pixels: Shifting the image by this many pixels shifts the output alike: 2^depth
            times the network's stride.
        receptive_pixels: How far from its own place an output pixel can see, at most. The
            statistics of group normalization, over the whole tile, come on top.
    """

    depth: int
    padding: Literal["same", "valid"]
    margin_pixels: int
    multiple_pixels: int
    receptive_pixels: int


@dataclass(frozen=True)
class _Grid:
    """Where an element looks, and how many pixels the whole row has lost; in input pixels."""

    step: int = 1
    first: int = 0
    last: int = 0
    lost: int = 0

    def seen(self, before: int, after: int, lost: int = 0) -> "_Grid":
        """Return the grid of elements that see so many elements more, on a shortened row."""
        return _Grid(
            self.step,
            self.first - before * self.step,
            self.last + after * self.step,
            self.lost + lost * self.step,
        )


# A walk takes milliseconds, and predicting a thousand images asks for it as often.
_known: WeakKeyDictionary[keras.Model, UNetGeometry] = WeakKeyDictionary()


def geometry_of(model: keras.Model) -> UNetGeometry:
    """Derive the geometry from the layers of a functional model, built here or loaded.

    Args:
        model: One input (B, H, W, C), one output (B, H', W', K).

    Returns:
        Its geometry, taken along the height; the networks here treat both axes alike.

    Raises:
        ValueError: It is no functional model, or it joins maps of different sizes.
    """
    if not hasattr(model, "operations"):
        raise ValueError(
            f"{type(model).__name__} is no functional Keras model, but geometry_of walks its "
            "layers: give what build_unet or keras.saving.load_model returned."
        )
    if model not in _known:
        _known[model] = _walk(model)
    return _known[model]


def _walk(model: keras.Model) -> UNetGeometry:
    """Follow the grid of the input from layer to layer."""
    grids = {id(tensor): _Grid() for tensor in model.inputs}
    depth, multiple = 0, 1
    for layer in model.operations:
        if isinstance(layer, layers.InputLayer):
            continue
        inputs = keras.tree.flatten(layer.input)
        grid = _behind(layer, [grids[id(tensor)] for tensor in inputs])
        grids[id(layer.output)] = grid
        depth += isinstance(layer, layers.MaxPooling2D)
        multiple = lcm(multiple, grid.step)
    output = grids[id(model.outputs[0])]
    margin = output.lost // 2
    return UNetGeometry(
        depth=depth,
        padding="valid" if margin else "same",
        margin_pixels=margin,
        multiple_pixels=multiple,
        receptive_pixels=max(margin - output.first, output.last - margin),
    )


def map_channels(model: keras.Model) -> int:
    """Return T: how many of a network's last channels are regression maps, no class logits.

    Args:
        model: What `build_unet` returned, or the same loaded, whose output is
            (B, H', W', K + T).
    """
    return next((layer.filters for layer in model.layers if layer.name == MAPS), 0)


def _behind(layer: keras.layers.Layer, sources: list[_Grid]) -> _Grid:
    """Return the grid behind a layer from those before it."""
    grid = sources[0]
    if isinstance(layer, layers.Conv2DTranspose):
        return _behind_up_convolution(grid, layer.kernel_size[0], layer.strides[0])
    if isinstance(layer, layers.Conv2D):
        reach, stride = layer.kernel_size[0] - 1, layer.strides[0]
        if layer.padding == "valid":
            return grid.seen(0, reach, lost=reach)
        # Rows whose length is a multiple of the stride; others were mirrored up to one.
        before = (reach + 1 - stride) // 2
        seen = grid.seen(before, reach - before)
        return _Grid(seen.step * stride, seen.first, seen.last, seen.lost)
    if isinstance(layer, layers.MaxPooling2D):
        seen = grid.seen(0, layer.pool_size[0] - 1)
        return _Grid(grid.step * layer.strides[0], seen.first, seen.last, seen.lost)
    if isinstance(layer, layers.Cropping2D):
        top, bottom = layer.cropping[0]
        return grid.seen(-top, top, lost=top + bottom)
    if isinstance(layer, layers.Concatenate):
        return _joined(layer, sources)
    return grid


def _behind_up_convolution(grid: _Grid, kernel: int, stride: int) -> _Grid:
    """Return the grid behind an up-convolution; kernel and stride are equal or padding is same.

    Element q of it comes from the elements p with q + before = p · stride + j, 0 <= j < kernel.
    """
    before, step = (kernel - stride) // 2, grid.step // stride
    firsts, lasts = [], []
    for q in range(stride):  # and so on, a stride further
        sources = [
            (q + before - j) // stride for j in range(kernel) if (q + before - j) % stride == 0
        ]
        firsts.append(min(sources) * grid.step + grid.first - q * step)
        lasts.append(max(sources) * grid.step + grid.last - q * step)
    return _Grid(step, min(firsts), max(lasts), grid.lost)


def _joined(layer: keras.layers.Layer, sources: list[_Grid]) -> _Grid:
    if len({(grid.step, grid.lost) for grid in sources}) > 1:
        raise ValueError(f"Layer {layer.name} joins maps that do not fit each other: {sources}.")
    first, last = min(grid.first for grid in sources), max(grid.last for grid in sources)
    return _Grid(sources[0].step, first, last, sources[0].lost)


def valid_tile_sizes(depth: int = 4, *, largest: int = 1024) -> list[int]:
    """List the tile sizes that a network with valid convolutions halves without a remainder.

    Args:
        depth: How often the network halves the tile.
        largest: Pixels; the smallest valid size is listed even above it.

    Returns:
        Pixels a side, ascending, 2^depth apart: 188, 204, ..., 572, ... at depth 4.

    Raises:
        ValueError: The depth is below 1.
    """
    smallest = smallest_tile(depth)
    return [smallest, *range(smallest + 2**depth, largest + 1, 2**depth)]


def smallest_tile(depth: int) -> int:
    """Return the side of the smallest valid tile, in pixels: 188 at depth 4.

    Raises:
        ValueError: The depth is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth={depth} must be at least 1: it counts how often sizes halve.")
    # From the output up: a block loses 4 pixels, an up-convolution doubles, so the least size s
    # before a block of the expanding path that leaves a pixel is 5, then (s + 1) // 2 + 4, ...
    size = 5
    for _ in range(depth):
        size = (size + 1) // 2 + 4
    for _ in range(depth):
        size = 2 * size + 4
    return size


def valid_margin(depth: int) -> int:
    """Return how many pixels the output of valid convolutions lacks on each side: 92 at depth 4.

    Two convolutions lose 2 pixels a side of their level, 2^level in the image; all levels but the
    deepest have two such pairs.
    """
    return 2 * (3 * 2**depth - 2)


def check_tile(size: int, depth: int) -> None:
    """Refuse a side that a network with valid convolutions cannot halve without a remainder.

    Args:
        size: Pixels of the tile's height or width.
        depth: How often the network halves the tile.

    Raises:
        ValueError: It names the nearest right sizes.
    """
    smallest, step = smallest_tile(depth), 2**depth
    if size >= smallest and (size - smallest) % step == 0:
        return
    below = smallest + (size - smallest) // step * step
    nearest = f"{below} and {below + step}" if below >= smallest else f"{smallest}"
    raise ValueError(
        f"A tile of {size} pixels does not fit a network with valid convolutions of depth {depth}, "
        f"which takes {smallest} + {step}·k pixels a side. Nearest: {nearest}."
    )
