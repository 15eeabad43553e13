"""From the bytes of a request to images.

    body   an image file, or a multipart form with image files
    image  uint8, uint16 or float32  (H, W, C)  C of the network, values as in the file

Files are PNG, JPEG, TIFF or BMP, told by their first bytes; Pillow would open many more, some with
the help of other programs. The header must state no more pixels than allowed before any is decoded.
"""

import tempfile
import warnings
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from unet_keras.errors import InputError
from unet_keras.inference.pictures import fit_image
from unet_keras.sources.images import pillow_cuts, read_image
from unet_keras.sources.tiff_pages import full_pages, full_pages_of
from unet_keras.web.limits import Limits, Refusal

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"BM": ".bmp",
}
_DEFLATE = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)


@dataclass(frozen=True)
class Upload:
    """A file that was posted.

    Attributes:
        name: What the client calls it; empty for a body that is the file.
        content: Its bytes.
    """

    name: str
    content: bytes


async def split_form(headers: Headers, body: bytes, limits: Limits) -> list[Upload]:
    """Take the files out of a multipart form.

    Raises:
        Refusal: 400 where it is damaged or holds no file, 413 where it holds too many.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        # One more than allowed, so that too many are counted here and not taken for damage.
        parser = MultiPartParser(headers, stream(), max_files=limits.images + 1, max_fields=16)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        text = str(getattr(error, "message", error))
        if text.startswith("Too many"):
            raise too_many_images(limits) from None
        raise Refusal(400, f"the multipart form is damaged: {text}") from None
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    uploads = [Upload(Path(file.filename or "").name, await file.read()) for file in files]
    await form.close()
    if not uploads:
        raise Refusal(400, "the multipart form holds no file: post images as files")
    if len(uploads) > limits.images:
        raise too_many_images(limits)
    return uploads


def too_many_images(limits: Limits) -> Refusal:
    """Return the refusal of a request with too many images."""
    return Refusal(413, f"a request may hold {limits.images} images at most")


def decode(upload: Upload, *, pixels: int) -> np.ndarray:
    """Decode an image file.

    Args:
        upload: The file.
        pixels: The most it may have.

    Returns:
        uint8, uint16 or float32 (H, W) or (H, W, C), as `read_image` returns it.

    Raises:
        Refusal: 415 for another format, 413 for too many pixels, 400 where it is damaged.
    """
    name = upload.name or "the body"
    if not upload.content:
        raise Refusal(400, f"{name} is empty: post an image file")
    known = (ending for start, ending in SIGNATURES.items() if upload.content.startswith(start))
    ending = next(known, None)
    if ending is None:
        raise Refusal(415, f"{name} is no image: post a PNG, JPEG, TIFF or BMP file")
    with tempfile.TemporaryDirectory(prefix="unet_keras_") as folder:
        path = Path(folder) / f"image{ending}"
        path.write_bytes(upload.content)
        try:
            _check_header(path, name, pixels)
            return read_image(path)
        except InputError as error:
            raise Refusal(400, str(error).replace(str(path), name)) from None


def _check_header(path: Path, name: str, pixels: int) -> None:
    """Refuse too many pixels or pages by what the file says of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes that are checked here
        try:
            with Image.open(path) as image:
                size, pages = image.size, int(getattr(image, "n_frames", 1))
                pages = int(min(pages, full_pages_of(path))) if pages > 1 else pages
                by_tifffile = image.format == "TIFF" and pillow_cuts(path, image)
        except Image.DecompressionBombError:
            raise Refusal(413, f"{name} has more than {pixels} pixels, the most allowed") from None
        except UnidentifiedImageError:
            size, pages = _tiff_header(path, name)
            by_tifffile = True
        except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError) as error:
            raise _damaged(name, error) from None
    if size[0] * size[1] > pixels:
        raise Refusal(
            413, f"{name} has {size[0]} x {size[1]} pixels, but {pixels} are the most allowed"
        )
    if pages > 1:
        raise Refusal(400, f"{name} is a stack of {pages} pages: post one page at a time")
    if by_tifffile:
        _check_segments(path, name)


def _tiff_header(path: Path, name: str) -> tuple[tuple[int, int], int]:
    """Width, with all its samples beyond four, and height; and the number of pages."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            samples = max(1, page.samplesperpixel - 3)
            return (page.imagewidth * samples, page.imagelength), full_pages(file)
    except Exception as error:  # tifffile raises whatever a damaged tag leads to
        raise _damaged(name, error) from None


def _check_segments(path: Path, name: str) -> None:
    """Refuse what would unpack to more than the header says: tifffile unpacks it whatever it is."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.compression == tifffile.COMPRESSION.NONE:
                return
            if page.compression not in _DEFLATE:
                coding = tifffile.COMPRESSION(page.compression).name
                raise Refusal(415, f"{name} is packed as {coding}: save it without, or as ZIP")
            # Tiles reach beyond the image; damage is told by who reads it.
            left = 4 * page.nbytes + len(page.dataoffsets) * 2**16
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
                file.filehandle.seek(offset)
                packed = file.filehandle.read(size)
                left -= len(zlib.decompressobj().decompress(packed, left)) if left > 0 else 0
    except Refusal:
        raise
    except Exception as error:  # as above
        raise _damaged(name, error) from None
    if left <= 0:
        raise Refusal(413, f"{name} unpacks to more than the {page.nbytes} bytes of its pixels")


def _damaged(name: str, error: Exception) -> Refusal:
    reason = " ".join(str(error).split())[:120]
    return Refusal(400, f"{name} cannot be read as an image, it may be cut off: {reason}")


def fit(image: np.ndarray, *, channels: int, dtype: np.dtype | None, name: str) -> np.ndarray:
    """Make an image (H, W) or (H, W, C) one that the network takes, as `fit_image` does.

    Raises:
        Refusal: 422, where that refuses it.
    """
    try:
        return fit_image(image, channels=channels, dtype=dtype, name=name)
    except InputError as error:
        raise Refusal(422, str(error)) from None
