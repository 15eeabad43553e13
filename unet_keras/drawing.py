"""Pictures: panels, overlays, errors in color, warped grids.

    image    any real dtype  (H, W) or (H, W, C)  grey values
    labels   integer         (H, W)               0 background, 1..n instances
    picture  uint8           (H, W, 3)            RGB

Used by previews, TensorBoard panels, reports and the README. NumPy, Pillow and matplotlib only.
"""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import hsv_to_rgb
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from unet_keras.whole_files import whole_file

# after Okabe and Ito (2008): distinct for the common kinds of color blindness
RIGHT = (0, 158, 115)
FALSE_POSITIVE = (240, 120, 0)
FALSE_NEGATIVE = (86, 180, 233)
_GOLDEN_RATIO = 0.6180339887498949
_INK = (32, 33, 36)


def to_uint8(image: np.ndarray, *, percentiles: tuple[float, float] = (0.2, 99.8)) -> np.ndarray:
    """Stretch grey values to the range of a screen.

    Args:
        image: Any real dtype, (H, W) or (H, W, C); all channels share one range. NaN becomes black.
        percentiles: Which grey values become black and white, in percent of the pixels.

    Returns:
        uint8, the shape of `image`. A constant image becomes middle grey.
    """
    values = np.asarray(image, np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, percentiles) if finite.size else (0.0, 0.0)
    if high <= low and finite.size:  # a few bright pixels on a constant ground
        low, high = finite.min(), finite.max()
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    scaled = (np.nan_to_num(values, nan=low) - low) / (high - low)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """A picture of an image of any number of channels, its grey values stretched.

    Args:
        image: (H, W) or (H, W, C). Two channels become red and green; of more, three count.

    Returns:
        uint8 (H, W, 3).
    """
    picture = to_uint8(image)
    if picture.ndim == 2:
        picture = picture[..., np.newaxis]
    if picture.shape[-1] == 1:
        return np.repeat(picture, 3, axis=-1)
    return np.pad(picture[..., :3], ((0, 0), (0, 0), (0, max(0, 3 - picture.shape[-1]))))


def instance_colors(numbers: ArrayLike) -> np.ndarray:
    """A color for each number; the same always, and far apart in hue for neighbors in number.

    Args:
        numbers: Integer (n,), 0 for the background.

    Returns:
        uint8 (n, 3); black for 0.
    """
    values = np.asarray(numbers, np.int64)
    hue = (0.08 + values * _GOLDEN_RATIO) % 1.0
    saturation = np.array([0.75, 0.5, 0.9])[values % 3]
    brightness = np.array([1.0, 0.95, 0.8, 0.9])[values % 4]
    colors = np.round(255 * hsv_to_rgb(np.stack([hue, saturation, brightness], axis=-1)))
    colors[values == 0] = 0
    return colors.astype(np.uint8)


def colorize_labels(labels: np.ndarray) -> np.ndarray:
    """Each instance in a color of its own on black.

    Args:
        labels: Integer (H, W).

    Returns:
        uint8 (H, W, 3).
    """
    numbers, positions = np.unique(labels, return_inverse=True)
    return instance_colors(numbers)[positions].reshape(*labels.shape, 3)


def outlines(labels: np.ndarray) -> np.ndarray:
    """The pixels of each instance that touch another number, side by side or one above the other.

    Args:
        labels: Integer (H, W).

    Returns:
        bool (H, W), True on the inner rim of every instance; the image's edge is no rim.
    """
    rim = np.zeros(labels.shape, bool)
    below = labels[:-1] != labels[1:]
    beside = labels[:, :-1] != labels[:, 1:]
    rim[:-1] |= below
    rim[1:] |= below
    rim[:, :-1] |= beside
    rim[:, 1:] |= beside
    return rim & (labels > 0)


def overlay(image: np.ndarray, labels: np.ndarray, *, fill: float = 0.18) -> np.ndarray:
    """Outlines of the instances in distinct colors over the grey image.

    Args:
        image: (H, W) or (H, W, C).
        labels: Integer (H, W).
        fill: Opacity of the color inside the outlines, in [0, 1].

    Returns:
        uint8 (H, W, 3).
    """
    picture, colors = to_rgb(image), colorize_labels(labels)
    picture = blend(picture, labels > 0, colors, fill)
    return blend(picture, outlines(labels), colors, 0.95)


def blend(picture: np.ndarray, where: np.ndarray, color: ArrayLike, opacity: float) -> np.ndarray:
    """Lay a color over a part of a picture.

    Args:
        picture: uint8 (H, W, 3).
        where: bool (H, W).
        color: One RGB color (3,), or a picture (H, W, 3).
        opacity: 0 leaves the picture, 1 replaces it.

    Returns:
        A new picture, uint8 (H, W, 3).
    """
    layer = np.broadcast_to(np.asarray(color, np.float32), picture.shape)
    result = picture.copy()
    mixed = (1 - opacity) * picture[where] + opacity * layer[where]
    result[where] = np.round(mixed).astype(np.uint8)
    return result


def error_map(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Right and wrong pixels in colors that the color-blind can tell apart.

    Args:
        image: (H, W) or (H, W, C), shown faintly below.
        truth: bool or integer (H, W), foreground where not 0.
        mask: The prediction, bool or integer (H, W), foreground where not 0.

    Returns:
        uint8 (H, W, 3): true positive green, false positive orange, false negative blue.
    """
    truth, mask = np.asarray(truth) > 0, np.asarray(mask) > 0
    picture = to_rgb(image) // 2 + 24
    picture = blend(picture, truth & mask, RIGHT, 0.35)
    picture = blend(picture, mask & ~truth, FALSE_POSITIVE, 0.9)
    return blend(picture, truth & ~mask, FALSE_NEGATIVE, 0.9)


def probability_map(probability: np.ndarray) -> np.ndarray:
    """Probabilities in the colors of matplotlib's cividis: dark blue 0, yellow 1.

    Args:
        probability: floating (H, W) in [0, 1].

    Returns:
        uint8 (H, W, 3).
    """
    table = np.round(255 * colormaps["cividis"](np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)
    return table[np.round(255 * np.clip(probability, 0, 1)).astype(np.uint8)]


def match_map(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, *,
    missed: ArrayLike, false: ArrayLike,
) -> np.ndarray:  # fmt: skip
    """Instances with true and false matches.

    Args:
        image: (H, W) or (H, W, C), shown faintly below.
        truth: Labels, integer (H, W).
        predicted: Labels, integer (H, W).
        missed: Numbers of the instances of `truth` without a match.
        false: Numbers of the instances of `predicted` without a match.

    Returns:
        uint8 (H, W, 3): matched predictions in green, false ones in orange, missed ones in blue.
    """
    picture = to_rgb(image) // 4 * 3
    lost, wrong = np.isin(truth, missed), np.isin(predicted, false)
    right, rim = (predicted > 0) & ~wrong, outlines(predicted)
    for area, color in ((lost, FALSE_NEGATIVE), (right, RIGHT), (wrong, FALSE_POSITIVE)):
        picture = blend(picture, area, color, 0.28)
    picture = blend(picture, outlines(truth) & lost, FALSE_NEGATIVE, 1.0)
    picture = blend(picture, rim & right, RIGHT, 1.0)
    return blend(picture, rim & wrong, FALSE_POSITIVE, 1.0)


def warped_grid(
    coordinates: np.ndarray, *, spacing_pixels: int = 16, image: np.ndarray | None = None
) -> np.ndarray:
    """A picture of a square grid pulled through a coordinate map, to show a deformation.

    Args:
        coordinates: floating (H, W, 2) or (2, H, W): row and column, in the source, of every
            pixel of the result. The identity gives a straight grid.
        spacing_pixels: Distance of the grid's lines in the source.
        image: (H, W) or (H, W, C), already warped, to draw the grid on; white paper otherwise.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: `coordinates` is no coordinate map.
    """
    rows_columns = np.asarray(coordinates, np.float32)
    if rows_columns.ndim == 3 and rows_columns.shape[0] == 2 != rows_columns.shape[-1]:
        rows_columns = np.moveaxis(rows_columns, 0, -1)
    if rows_columns.ndim != 3 or rows_columns.shape[-1] != 2:
        raise ValueError(
            f"coordinates have shape {np.shape(coordinates)}; expected (H, W, 2) or (2, H, W)."
        )
    distance = np.abs((rows_columns + spacing_pixels / 2) % spacing_pixels - spacing_pixels / 2)
    # a line is about one pixel of the result wide, however far the map stretches
    stretch = np.stack([np.hypot(*np.gradient(rows_columns[..., k])) for k in (0, 1)], axis=-1)
    line = np.clip(1.25 - distance / np.maximum(stretch, 1e-3), 0, 1).max(axis=-1)[..., np.newaxis]
    paper = np.full((*line.shape[:2], 3), 255, np.uint8) if image is None else to_rgb(image)
    ink = np.array(_INK if image is None else FALSE_POSITIVE, np.float32)
    return np.round((1 - line) * paper + line * ink).astype(np.uint8)


def panel(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    *,
    gap_pixels: int = 6,
    captions: Sequence[str] = (),
) -> np.ndarray:
    """Pictures side by side and one below the other, on white.

    Args:
        rows: Rows of images; each becomes a picture (uint8 RGB is taken as it is, bool is black and
            white, anything else is stretched). Sizes may differ; a row may be shorter than others.
        titles: One for each column, drawn above it; wide ones widen it.
        gap_pixels: White space between pictures.
        captions: One for each row, drawn above it, for file names and scores.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: There is no picture.
    """
    pictures = [[_as_picture(image) for image in row] for row in rows]
    columns = max((len(row) for row in pictures), default=0)
    if not columns:
        raise ValueError(f"panel() got no picture in {len(rows)} rows; expected rows of images.")
    widths = [max(row[c].shape[1] for row in pictures if c < len(row)) for c in range(columns)]
    heights = [max((picture.shape[0] for picture in row), default=0) for row in pictures]
    font_size = int(np.clip(min(widths) // 14, 11, 28))
    line = font_size + font_size // 2
    needed = [int(ImageFont.load_default(font_size).getlength(title)) + 4 for title in titles]
    widths = [max(both) for both in zip(widths, [*needed, *widths[len(needed) :]], strict=False)]
    lefts = np.cumsum([0, *widths]) + gap_pixels * np.arange(columns + 1)
    blocks = [height + line * bool(captions) for height in heights]
    tops = np.cumsum([line * bool(titles), *blocks]) + gap_pixels * np.arange(len(rows) + 1)
    canvas = np.full((tops[-1] - gap_pixels, lefts[-1] - gap_pixels, 3), 255, np.uint8)
    texts = [(left, 0, title) for left, title in zip(lefts, titles, strict=False)]
    texts += [(0, top, caption) for top, caption in zip(tops, captions, strict=False)]
    for top, row in zip(tops + line * bool(captions), pictures, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            height, width = picture.shape[:2]
            canvas[top : top + height, left : left + width] = picture
    return _write_texts(canvas, texts, font_size)


def _as_picture(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype == bool:
        return np.repeat(np.uint8(255) * image[..., np.newaxis], 3, axis=-1)
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3:
        return image
    return to_rgb(image)


def _write_texts(canvas: np.ndarray, texts: list[tuple[int, int, str]], size: int) -> np.ndarray:
    """Draw (left, top, text) into a picture."""
    page, font = Image.fromarray(canvas), ImageFont.load_default(size)
    draw = ImageDraw.Draw(page)
    for left, top, text in texts:
        draw.text((left + 2, top + size // 6), text, fill=_INK, font=font)
    return np.array(page)


def shrink(picture: np.ndarray, longest_pixels: int) -> np.ndarray:
    """Make a picture smaller, never larger, keeping its proportions.

    Args:
        picture: uint8 (H, W, 3).
        longest_pixels: What the longer side may have.

    Returns:
        uint8 (H', W', 3), averaged over the pixels that fall together.
    """
    factor = longest_pixels / max(picture.shape[:2])
    if factor >= 1:
        return picture
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def write_png(path: str | os.PathLike[str], array: np.ndarray, said: PngInfo | None = None) -> None:
    """Write a PNG file, whole or not at all; folders are made, and errors name it.

    Args:
        path: The file; one that is there is replaced.
        array: bool, uint8 or uint16 (H, W), or uint8 (H, W, 3).
        said: Texts for the file's metadata.

    Raises:
        ValueError: PNG cannot hold such an array.
    """
    array, target = np.asarray(array), Path(path)
    array = np.uint8(255) * array if array.dtype == bool else array
    plain = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if not plain and not (array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3):
        raise ValueError(
            f"{target}: cannot write {array.dtype} {array.shape} as PNG; expected bool, uint8 or "
            "uint16 (H, W), or uint8 (H, W, 3)."
        )
    content = BytesIO()  # level 3 is twice as fast, and no larger
    Image.fromarray(array).save(content, "png", compress_level=3, pnginfo=said)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as partial:
        partial.write_bytes(content.getvalue())
