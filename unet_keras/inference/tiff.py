"""TIFF files larger than memory: regions read one at a time, tiles written one after the other."""

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from unet_keras.errors import InputError
from unet_keras.inference.pictures import fit_image, no_channel
from unet_keras.sources.channels import single_color
from unet_keras.sources.tiff_pages import demand_listed

TILE = 512
_CACHE_BYTES = 128 * 2**20
_GREY = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
_GREY_OR_COLOR = (*_GREY, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
_DAMAGE = (
    tifffile.TiffFileError, OSError, ValueError, IndexError, TypeError, struct.error
)  # fmt: skip
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)

Slices = tuple[slice, slice]


class TiffRegions:
    """A page of a TIFF file that is read region by region: `image[10:20, 30:50]`.

    Uncompressed pages are mapped into memory for each region; of compressed ones, the tiles or
    strips that the region meets are decoded, the latest of which are kept.

    Grey values are those of `read_image`: alpha is dropped, wide integers become float32.

    Args:
        path: The file; tiled or in strips, BigTIFF too.
        page: Which page, from 0.
        channels: Of a network that takes them: color becomes grey, grey color (`fit_image`).
            None leaves them as they are.
        dtype: Likewise, of the images it was trained on; None takes any.
        sample: Which of the numbers of each pixel is taken, from 0; None takes all.

    Attributes:
        shape: (H, W, C).
        dtype: Of its grey values: uint8, uint16 or float32.

    Raises:
        InputError: It is no TIFF file, has a palette or less than 8 bits, lacks the sample, or is
            compressed in a way that cannot be read in parts.
    """

    ndim = 3

    def __init__(
        self,
        path: Path,
        page: int = 0,
        *,
        channels: int | None = None,
        dtype: np.dtype | None = None,
        sample: int | None = None,
    ) -> None:
        self.path, self._channels, self._wanted, self._sample = path, channels, dtype, sample
        with ExitStack() as unless_fit:
            try:
                self._file = unless_fit.enter_context(tifffile.TiffFile(path))
                leaf: Any = self._file.pages[page]
                shape, self._stored_dtype = leaf.shape, np.dtype(leaf.dtype)
            except _DAMAGE as error:
                raise InputError(f"{path} cannot be read as a TIFF file: {error}") from None
            if leaf.axes not in ("YX", "YXS"):
                raise InputError(
                    f"{path} has axes {leaf.axes}; large images are read with their channels "
                    "together (YX or YXS): save it so"
                )
            if leaf.photometric not in _GREY_OR_COLOR or leaf.bitspersample < 8:
                raise InputError(
                    f"{path} has {leaf.bitspersample} bits of {leaf.photometric.name} a pixel; "
                    "large images are read as grey values or RGB of 8 bits and more: save it so"
                )
            self._leaf = leaf
            self._stored_shape = (*shape[:2], 1 if len(shape) == 2 else shape[2])
            one = np.zeros((1, 1, self._stored_shape[2]), self._stored_dtype)
            self._held = self._without_alpha(one).shape[2]
            if sample is not None and sample >= self._held:
                raise no_channel(path, sample, self._held)
            one = self._fitted(one, sample)
            unless_fit.pop_all()
        self.shape, self.dtype = (*shape[:2], one.shape[2]), one.dtype
        self._tile = (leaf.tilelength, leaf.tilewidth) if leaf.is_tiled else (
            leaf.rowsperstrip, shape[1]
        )  # fmt: skip
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def pixels(self) -> int:
        """Number of pixels of the whole image."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, region: Slices) -> np.ndarray:
        """Read a region as (h, w, C)."""
        return self._fitted(self._stored(region), self._taken)

    def _stored(self, region: Slices) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (
            piece.indices(side) for piece, side in zip(region, self.shape[:2], strict=True)
        )
        if self._leaf.is_memmappable:
            # Mapped anew each time, so that what was read before does not stay in memory.
            dtype = self._stored_dtype
            mapped = np.memmap(
                self.path, self._leaf.parent.byteorder + dtype.str[1:], "r",
                self._leaf.dataoffsets[0], self._stored_shape,
            )  # fmt: skip
            return np.array(mapped[top:bottom, left:right], dtype)
        return self._decoded(top, bottom, left, right)

    def demand_fitting(self) -> None:
        """See that all of it is there, and that the network takes it, before anything is computed.

        Where its type can hold values that the network does not take, it is read once.

        Raises:
            InputError: It is cut off, has such values or is damaged, or its file holds more images
                than it lists.
        """
        leaf = self._leaf
        demand_listed(
            self.path,
            description=leaf.description,
            pages=len(self._file.pages),
            page_bytes=leaf.nbytes,
        )
        offsets, sizes = leaf.dataoffsets, leaf.databytecounts
        if len(offsets) != len(sizes):
            raise InputError(f"{self.path} is damaged: it does not say how long its parts are")
        plain = leaf.compression == tifffile.COMPRESSION.NONE
        # Some programs count more bytes than a last part has that is not compressed.
        end = max((o + (1 if plain else n) for o, n in zip(offsets, sizes, strict=True) if n))
        if leaf.is_memmappable:
            end = offsets[0] + leaf.nbytes
        held = self.path.stat().st_size
        if held < end:
            raise InputError(
                f"{self.path} is cut off ({held} of {end} bytes); copy it again, or leave it out"
            )
        if self._channels is None or (self._stored_dtype == self.dtype and self.dtype.kind == "u"):
            return
        for band in self._bands():
            self[band]

    def _bands(self) -> Iterator[Slices]:
        """The regions that are read one after the other to see all of it."""
        height, width = self.shape[:2]
        return ((slice(top, top + TILE), slice(0, width)) for top in range(0, height, TILE))

    @cached_property
    def _taken(self) -> int | None:
        """Which of the numbers of each pixel is taken; None takes all.

        Whether there is a single color only all of the image tells: it is read once for that.
        """
        if self._sample is not None or (self._channels, self._held) != (1, 3):
            return self._sample
        stored = (self._without_alpha(self._stored(band)) for band in self._bands())
        return single_color(np.max([np.abs(band).max(axis=(0, 1)) for band in stored], axis=0))

    def _fitted(self, stored: np.ndarray, sample: int | None) -> np.ndarray:
        """What `read_image` and `fit_image` make of pixels (h, w, C) as they are stored."""
        values = self._without_alpha(stored)
        if sample is not None:
            values = values[..., sample : sample + 1]
        if self._channels is None:
            return values
        return fit_image(
            values, channels=self._channels, dtype=self._wanted, name=str(self.path), whole=False
        )

    def _without_alpha(self, stored: np.ndarray) -> np.ndarray:
        """What `read_image` makes of pixels (h, w, C) as they are stored."""
        if self._leaf.photometric not in _GREY:
            stored = stored[..., :3]
        else:
            alphas = [kind for kind in self._leaf.extrasamples if kind in _ALPHA]
            stored = stored[..., : stored.shape[2] - len(alphas)]
        if stored.dtype not in (np.uint8, np.uint16, np.float32):
            return stored.astype(np.float32)
        return stored

    def _decoded(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        height, width = self._tile
        across = -(-self.shape[1] // width)
        region = np.empty((bottom - top, right - left, self._stored_shape[2]), self._stored_dtype)
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                y, x = row * height, column * width
                segment = self._segment(row * across + column)
                rows = slice(max(top, y), min(bottom, y + segment.shape[0]))
                columns = slice(max(left, x), min(right, x + segment.shape[1]))
                seen = segment[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
                place = np.s_[
                    rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]
                region[place] = seen
        return region

    def _segment(self, index: int) -> np.ndarray:
        """A tile or strip (h, w, C), cut at the image's edge."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            handle, leaf = self._file.filehandle, self._leaf
            try:
                handle.seek(leaf.dataoffsets[index])
                data = handle.read(leaf.databytecounts[index])
                plain = leaf.compression == tifffile.COMPRESSION.NONE
                if len(data) < (1 if plain else leaf.databytecounts[index]):
                    raise ValueError("it is cut off")
                options = {"jpegtables": leaf.jpegtables} if leaf.jpegtables else {}
                segment = leaf.decode(data or None, index, **options)[0]
            except Exception as error:  # codecs raise what they like
                reason = " ".join(str(error).split())[:120]
                raise InputError(
                    f"{self.path} cannot be read in parts, a tile is damaged or compressed in a "
                    f"way that needs imagecodecs: {reason}"
                ) from None
            height, width = self._tile
            across = -(-self.shape[1] // width)
            size = (
                min(height, self.shape[0] - index // across * height),
                min(width, self.shape[1] - index % across * width),
            )
            if segment is None:  # a tile that was never written is empty
                segment = np.zeros((1, *size, self._stored_shape[2]), self._stored_dtype)
            kept = segment[0, : size[0], : size[1]].astype(self._stored_dtype, copy=False)
            self._cache[index] = kept
            while sum(part.nbytes for part in self._cache.values()) > _CACHE_BYTES:
                self._cache.popitem(last=False)
            return kept


def write_tiled(
    path: Path,
    shape: tuple[int, int],
    dtype: Any,
    read: Callable[[slice, slice], np.ndarray],
    *,
    pixel_size: float | None = None,
    software: str | None = None,
) -> None:
    """Write a tiled, compressed OME-TIFF (BigTIFF), a tile at a time.

    Args:
        path: The file.
        shape: (H, W).
        dtype: Of the values.
        read: From rows and columns to the values there, (h, w).
        pixel_size: Side of a pixel in micrometres, for the file's metadata.
        software: What has written it, likewise.
    """
    height, width = shape

    def rows() -> Any:
        for top in range(0, height, TILE):
            band = read(slice(top, min(top + TILE, height)), slice(0, width)).astype(dtype)
            for left in range(0, width, TILE):
                tile = np.zeros((TILE, TILE), dtype)
                part = band[:, left : left + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile

    metadata: dict[str, Any] = {"axes": "YX"}
    if pixel_size is not None:
        metadata |= {"PhysicalSizeX": pixel_size, "PhysicalSizeY": pixel_size}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        file.write(
            rows(), shape=shape, dtype=dtype, tile=(TILE, TILE), photometric="minisblack",
            software=software, compression="zlib", compressionargs={"level": 1}, metadata=metadata,
        )  # fmt: skip
