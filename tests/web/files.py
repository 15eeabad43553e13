"""Files that clients post: what is an image, and what is none, is too large, or is a trap."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def encode(image: np.ndarray, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    if kind == "tiff":
        tifffile.imwrite(stream, image, photometric="rgb" if image.ndim == 3 else "minisblack")
    else:
        Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header promises any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


def bad_images() -> dict[str, tuple[bytes, int, str]]:
    good = encode(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    stack = io.BytesIO()
    tifffile.imwrite(stack, np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    five_channels = io.BytesIO()
    tifffile.imwrite(
        five_channels, np.zeros((5, 8, 8), np.uint8), photometric="minisblack",
        planarconfig="separate", metadata=None,
    )  # fmt: skip
    packed = io.BytesIO()
    tifffile.imwrite(
        packed, np.zeros((4000, 16, 3), np.uint16), photometric="rgb", compression="zlib",
        rowsperstrip=4000,
    )  # fmt: skip
    packed.seek(0)
    with tifffile.TiffFile(packed, mode="r+b") as file:  # now 16 rows, and the same strip
        for tag in ("ImageLength", "RowsPerStrip"):
            file.pages.first.tags[tag].overwrite(16)
    coded = io.BytesIO()
    tifffile.imwrite(coded, np.zeros((16, 16, 3), np.uint16), photometric="rgb", compression="lzma")
    return {
        "packed bomb": (packed.getvalue(), 413, "unpacks to more than the 1536 bytes"),
        "packed otherwise": (coded.getvalue(), 415, "LZMA: save it without, or as ZIP"),
        "empty": (b"", 400, "empty"),
        "text": (b"hello", 415, "PNG, JPEG, TIFF or BMP"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "PNG"),
        "cut off": (good[: len(good) // 2], 400, "cut off"),
        "garbage in TIFF": (b"II*\0" + bytes(range(200)), 400, "cut off"),
        "bomb": (png_of_size(20_000, 20_000), 413, "pixels"),
        "bomb for Pillow": (png_of_size(2**31 - 1, 2**31 - 1), 413, "pixels"),
        "stack": (stack.getvalue(), 400, "3 pages"),
        "bytes": (b"\x89PNG\r\n\x1a\n" + bytes(2**21), 413, "2097152 bytes"),
        "five channels": (five_channels.getvalue(), 422, "channels"),
        "header of a TIFF": (stack.getvalue()[:60], 400, "cut off"),
    }
