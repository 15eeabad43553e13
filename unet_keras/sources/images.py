"""One reader for every image format: TIFF, PNG, JPEG and what else Pillow knows.

    read_image   uint8, uint16 or float32  (H, W) or (H, W, C)  grey values as stored, alpha dropped
    read_mask    integers of the file's own type  (H, W)         label numbers or palette indices

Pillow goes first: it reads the LZW-compressed TIFFs of LIVECell, which tifffile alone does not.
tifffile reads what Pillow would silently cut to 8 bits (16-bit RGB), and what it cannot read;
of PNG, TensorFlow does.
"""

import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from unet_keras.errors import InputError
from unet_keras.sources.tiff_pages import demand_listed, full_pages, full_pages_of

_TIFF_SUFFIXES = (".tif", ".tiff")
# Tags of TIFF, and values of some of them.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _DESCRIPTION, _SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = (
    258, 262, 270, 277, 338
)  # fmt: skip
_SAMPLE_FORMAT = 339
_PLAIN_CODINGS = (
    tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE
)  # fmt: skip
_PLAIN_PREDICTORS = (tifffile.PREDICTOR.NONE, tifffile.PREDICTOR.HORIZONTAL)
_PLAIN_COLORS = (
    tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB
)  # fmt: skip
_WHITE_IS_ZERO, _ALPHA, _UNSIGNED, _SIGNED = 0, {1, 2}, 1, 2
_LARGEST_NUMBER = 2**32 - 1  # of a label
# What damaged files make Pillow and tifffile raise, beside OSError (SyntaxError: a broken PNG).
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error
)  # fmt: skip


def read_image(path: str | Path, *, page: int | None = None) -> np.ndarray:
    """Read one image as grey values.

    Args:
        path: A TIFF, PNG, JPEG or BMP file.
        page: Which page of a multi-page TIFF, counted from 0; needed where there are several.

    Returns:
        uint8, uint16 or float32, (H, W) or (H, W, C): the values as stored, also where a TIFF
        says that 0 is white. Wider and signed integers and float64 become float32, a palette
        its colors, two-valued images 0 and 255, and an alpha channel is dropped.

    Raises:
        InputError: The file is absent, damaged, not an image, or has several pages or
            complex numbers.
    """
    pixels = _read(Path(path), page, as_numbers=False)
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return pixels
    return pixels.astype(np.float32)


def read_mask(path: str | Path, *, page: int | None = None) -> np.ndarray:
    """Read one image whose values are label or class numbers.

    Args:
        path: A PNG or TIFF file; a palette image gives its indices, not its colors.
        page: Which page of a multi-page TIFF, counted from 0; needed where there are several.

    Returns:
        Integers (H, W), 8, 16 or 32 bits wide, the values as stored: 0 and 1 of two-valued
        images, up to 15 of those of 4 bits. Colors that are the same in all channels count as
        grey.

    Raises:
        InputError: As `read_image`; or the image has colors, fractions, or numbers that are
            negative or infinite.
    """
    pixels = _read(Path(path), page, as_numbers=True)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise InputError(
            f"The mask {path} has {pixels.shape[-1]} channels; label and class numbers need one. "
            "Save it as a grey or palette image."
        )
    if pixels.dtype.kind == "f":
        pixels = _whole(pixels, path)
    if pixels.dtype.kind == "i" and pixels.min() < 0:
        raise InputError(
            f"The mask {path} holds {pixels.min()}; label and class numbers are 0 (background) or "
            "above. Save what is not annotated as 0."
        )
    return np.ascontiguousarray(pixels)


def _whole(pixels: np.ndarray, path: str | Path) -> np.ndarray:
    """Label numbers that were saved as floating-point numbers: int64, negative ones too."""
    if not np.isfinite(pixels).all():
        raise InputError(
            f"The mask {path} holds NaN or infinity; label and class numbers are 0 (background) or "
            "above. Save what is not annotated as 0."
        )
    extreme = max(pixels.min(), pixels.max(), key=abs)
    if abs(extreme) > _LARGEST_NUMBER:
        raise InputError(
            f"The mask {path} holds {extreme:g}, which is no label number; those are at most "
            f"{_LARGEST_NUMBER}."
        )
    whole = pixels.astype(np.int64)
    if (whole != pixels).any():
        raise InputError(f"The mask {path} holds fractions; save whole label numbers instead.")
    return whole


def page_count(path: str | Path) -> int:
    """How many pages a multi-page TIFF has; 1 for every other image.

    Raises:
        InputError: The file is absent or not an image.
    """
    path = Path(path)
    with _named_errors(path):
        try:
            with Image.open(path) as image:
                return _pages_of(path, image)
        except Image.UnidentifiedImageError:
            with _opened_by_tifffile(path) as file:
                return full_pages(file)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn what readers raise into one line that names the file."""
    if not path.is_file():
        raise InputError(f"No image at {path}; check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damage before it fails on it
            yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(
            f"The image {path} is too large to be read at once; cut it into tiles."
        ) from None
    except PermissionError:
        raise InputError(
            f"There is no permission to read the image {path}; make it readable (chmod +r)."
        ) from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        if "truncated" in reason:
            raise _cut_off(path, reason) from error
        raise InputError(
            f"{path} cannot be read as an image (TIFF, PNG or JPEG); it may be cut off or of "
            f"another format: {reason}"
        ) from error


def _cut_off(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is cut off ({reason}); copy it again, or leave it out.")


def _read(path: Path, page: int | None, *, as_numbers: bool) -> np.ndarray:
    pixels = _stored_pixels(path, page, as_numbers=as_numbers)
    if pixels.dtype.kind == "c":
        raise InputError(
            f"{path} holds complex numbers, which are neither grey values nor labels; save their "
            "magnitude instead."
        )
    return pixels


def _stored_pixels(path: Path, page: int | None, *, as_numbers: bool) -> np.ndarray:
    with _named_errors(path):
        if page is not None and _is_plain(path, page):
            return _tifffile_pixels(path, page)
        try:
            with Image.open(path) as image:
                _check_page(path, page, _pages_of(path, image))
                if page is not None and page > 0:
                    image.seek(page)
                if not pillow_cuts(path, image):
                    return _pillow_pixels(path, image, as_numbers=as_numbers)
                if image.format == "PNG":
                    return _wide_png_pixels(path.read_bytes())
        except Image.UnidentifiedImageError:
            pass
        return _tifffile_pixels(path, page)


def _opened_by_tifffile(path: Path) -> tifffile.TiffFile:
    """Open what Pillow does not know, in the handling of `UnidentifiedImageError` or after it."""
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        raise ValueError("not an image of a known format")
    file = tifffile.TiffFile(path)
    if not file.pages:  # their list comes last in many files, so that it goes first
        file.close()
        raise _cut_off(path, "its pages are listed beyond its end")
    return file


def _pages_of(path: Path, image: Image.Image) -> int:
    """How many pages a file lists, which must be all that ImageJ has put into it."""
    pages = int(getattr(image, "n_frames", 1))
    tags = getattr(image, "tag_v2", {})
    bits = sum(tags.get(_BITS_PER_SAMPLE, (1,)))
    demand_listed(
        path,
        description=str(tags.get(_DESCRIPTION, "")),
        pages=pages,
        page_bytes=image.width * image.height * bits // 8,
    )
    return int(min(pages, full_pages_of(path))) if pages > 1 else pages


def _is_plain(path: Path, page: int) -> bool:
    """Whether tifffile reads a page like Pillow, which would go through all before it each time."""
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        return False
    try:
        with tifffile.TiffFile(path) as file:
            kind: Any = file.pages[page].keyframe
    except _DAMAGE:
        return False  # Pillow says why, or reads what tifffile does not
    return (
        kind.compression in _PLAIN_CODINGS
        and kind.photometric in _PLAIN_COLORS
        and kind.bitspersample in (8, 16, 32)
        and kind.predictor in _PLAIN_PREDICTORS
    )


def _check_page(path: Path, page: int | None, pages: int) -> None:
    if page is None and pages > 1:
        raise InputError(
            f"{path} is a stack of {pages} pages where one image was expected; "
            "use source.kind=folders for stacks, or save the pages as single images."
        )
    if page is not None and not 0 <= page < pages:
        raise InputError(f"{path} has {pages} pages; there is no page {page} (counted from 0).")


def pillow_cuts(path: Path, image: Image.Image) -> bool:
    """Tell whether Pillow would cut 16 bits a channel down to 8, or two channels to one."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        samples = int(tags.get(_SAMPLES_PER_PIXEL, 1))
        alpha = set(tags.get(_EXTRA_SAMPLES, ())) & _ALPHA
        return samples > 1 and (max(tags[_BITS_PER_SAMPLE]) > 8 or (samples == 2 and not alpha))
    return image.format == "PNG" and len(image.getbands()) > 1 and _png_bits(path) > 8


def _png_bits(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]  # of the header chunk, which always comes first


def _grey_step(path: Path, image: Image.Image) -> int:
    """What Pillow multiplies grey values of 2 or 4 bits by, so that the largest becomes 255."""
    bits = 8
    if image.format == "PNG":
        bits = _png_bits(path)
    elif image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]  # type: ignore[attr-defined]
    return 255 // (2**bits - 1) if bits < 8 else 1


def _pillow_pixels(path: Path, image: Image.Image, *, as_numbers: bool) -> np.ndarray:
    mode = image.mode
    if mode == "1":
        # Pillow shows two values as brightness, too.
        turned = image.format == "TIFF" and _is_white_zero(image.tag_v2)  # type: ignore[attr-defined]
        return (np.asarray(image) ^ turned).astype(np.uint8) * np.uint8(1 if as_numbers else 255)
    if mode == "P" and not as_numbers:
        image = image.convert("RGB")
    elif mode in ("LA", "La"):
        image = image.convert("L")
    elif mode not in ("L", "P", "RGB", "I", "F") and not mode.startswith("I;16"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if mode in ("L", "I") and image.format == "TIFF":
        pixels = _tiff_numbers(image.tag_v2, pixels)  # type: ignore[attr-defined]
    if mode == "L" and as_numbers:
        pixels = pixels // _grey_step(path, image)
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


def _tiff_numbers(tags: Mapping[int, Any], pixels: np.ndarray) -> np.ndarray:
    """Undo what Pillow makes of grey values, so that all widths are read as they are stored.

    It shows 8 bits where white is 0 as brightness (but not 16: ImageJ's masks with an inverted
    table would lose their foreground), and knows no sign of 8 bits and only signed 32.
    """
    formats = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    if pixels.dtype == np.uint8:
        if _is_white_zero(tags):
            pixels = 255 - pixels
        return pixels.view(np.int8) if _SIGNED in formats else pixels
    unsigned = 32 in tags[_BITS_PER_SAMPLE] and _UNSIGNED in formats
    return pixels.view(np.uint32) if unsigned else pixels


def _is_white_zero(tags: Mapping[int, Any]) -> bool:
    return tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _wide_png_pixels(content: bytes) -> np.ndarray:
    """Read a PNG of 16 bits a channel, without its alpha."""
    import tensorflow as tf  # here, because hardly any file needs it

    colors = content[25] & 2  # a flag of the header's color type
    try:
        pixels = tf.io.decode_png(content, 3 if colors else 1, tf.uint16).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(error.message) from None
    return pixels if colors else pixels[..., 0]


def _tifffile_pixels(path: Path, page: int | None) -> np.ndarray:
    with _opened_by_tifffile(path) as file:
        _check_page(path, page, full_pages(file))
        leaf = file.pages[page or 0]
        pixels = leaf.asarray()
        if leaf.axes.startswith("S") and pixels.ndim == 3:  # planes one after the other
            pixels = np.moveaxis(pixels, 0, -1)
        kind = leaf.keyframe or file.pages.first  # later pages state only what differs
        extra = kind.extrasamples if pixels.ndim == 3 else ()
        # Beside colors, an extra sample of no stated meaning is alpha too; beside grey it is data.
        colors = kind.photometric == tifffile.PHOTOMETRIC.RGB
        if len(extra) == 1 and (colors or extra[0] in _ALPHA):
            pixels = pixels[..., :-1]
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3):
        raise ValueError(f"an array of shape {pixels.shape} is not an image")
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
