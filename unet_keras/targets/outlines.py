"""Outlines as runs of pixels, read straight from compressed COCO run-length codes.

    outlines  n compressed codes (bytes), each of size (H, W)
    runs      [start, stop) of the foreground in column-major order: pixel (y, x) is x · H + y

A code lists the lengths of alternating runs of background and foreground, down the columns. From
the fourth on, a length is the difference to the one two before. Each is written in groups of five
bits, lowest first, one character a group: 48 + five bits + 32 if more follow; bit 16 of the last
is the sign (cocoapi, common/maskApi.c, rleFrString).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_keras.errors import InputError
from unet_keras.targets.compiled import compiled

_SOUND, _CUT_OFF, _BAD_CHARACTER, _TOO_LONG_NUMBER, _NEGATIVE_RUN, _TOO_LONG, _TOO_SHORT = range(7)
_PROBLEMS = {
    _CUT_OFF: "ends in the middle of a number",
    _BAD_CHARACTER: "holds a character outside '0' to 'o'",
    _TOO_LONG_NUMBER: "holds a number of more than 35 bits",
    _NEGATIVE_RUN: "holds a run of negative length",
    _TOO_LONG: "holds more pixels than the image",
    _TOO_SHORT: "holds fewer pixels than the image",
}


@dataclass(frozen=True, eq=False)
class Runs:
    """The foreground runs of n outlines, one after the other.

    Attributes:
        starts: int64 (runs,), first pixel of each run, column-major.
        stops: int64 (runs,), the pixel after its last.
        first: int64 (n + 1,), outline k has the runs first[k] to first[k + 1] - 1.
    """

    starts: np.ndarray
    stops: np.ndarray
    first: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """Pixels in each outline, int64 (n,), shared ones included."""
        covered = np.concatenate([[0], np.cumsum(self.stops - self.starts)])
        return covered[self.first[1:]] - covered[self.first[:-1]]


def read_runs(outlines: Sequence[bytes], shape: tuple[int, int]) -> Runs:
    """Decode the runs of all outlines.

    Args:
        outlines: The `counts` of a compressed COCO run-length code of size `shape` an instance.
        shape: Height and width in pixels.

    Returns:
        The foreground runs; none is empty.

    Raises:
        InputError: An outline is not bytes, is damaged, or is of another size.
    """
    for k, outline in enumerate(outlines):
        if not isinstance(outline, bytes):
            raise InputError(
                f"outlines[{k}] is {type(outline).__name__}, but must be the bytes of a compressed "
                "COCO run-length code; pycocotools.mask.frPyObjects makes them of polygons"
            )
    text = np.frombuffer(b"".join(outlines), np.int8)
    ends = np.cumsum([len(outline) for outline in outlines], dtype=np.int64)
    starts, stops = np.empty((2, text.size // 2 + 1), np.int64)
    first = np.zeros(len(outlines) + 1, np.int64)
    height, width = shape
    bad, problem = _decode(text, ends, height * width, starts, stops, first)
    if problem != _SOUND:
        raise InputError(
            f"outlines[{bad}] {_PROBLEMS[problem]} of {height} x {width} pixels (height x width): "
            f"a damaged run-length code, or one of an image of another size: {outlines[bad][:40]!r}"
        )
    return Runs(starts[: first[-1]], stops[: first[-1]], first)


def instance_areas(outlines: Sequence[bytes], shape: tuple[int, int]) -> np.ndarray:
    """Count the pixels of each outline, those shared with others included.

    Args:
        outlines: The `counts` of a compressed COCO run-length code of size `shape` an instance.
        shape: Height and width in pixels.

    Returns:
        int64 (n,), in pixels.

    Raises:
        InputError: An outline is damaged or of another size.
    """
    return read_runs(outlines, shape).areas


@compiled
def _decode(
    text: np.ndarray,
    ends: np.ndarray,
    pixels: int,
    starts: np.ndarray,
    stops: np.ndarray,
    first: np.ndarray,
) -> tuple[int, int]:
    """Fill starts, stops and first; return the first bad outline and what is wrong with it."""
    at = runs = 0
    for k in range(ends.size):
        pixel = lengths = before = two_before = 0
        while at < ends[k]:
            value, at, problem = _read_number(text, at, ends[k])
            if problem != _SOUND:
                return k, problem
            length = value + two_before if lengths > 2 else value
            if length < 0:
                return k, _NEGATIVE_RUN
            if length > pixels - pixel:
                return k, _TOO_LONG
            if lengths % 2 == 1 and length > 0:
                starts[runs], stops[runs] = pixel, pixel + length
                runs += 1
            pixel += length
            lengths += 1
            two_before, before = before, length
        if pixel != pixels:
            return k, _TOO_SHORT
        first[k + 1] = runs
    return 0, _SOUND


@compiled
def _read_number(text: np.ndarray, at: int, end: int) -> tuple[int, int, int]:
    """Read one number from position `at`: its value, the position after it, what is wrong."""
    value = 0
    for group in range(7):
        if at == end:
            return value, at, _CUT_OFF
        bits = text[at] - 48
        at += 1
        if bits < 0 or bits > 63:
            return value, at, _BAD_CHARACTER
        value |= (bits & 31) << (5 * group)
        if bits < 32:
            sign = -1 << (5 * group + 5) if bits & 16 else 0
            return value | sign, at, _SOUND
    return value, at, _TOO_LONG_NUMBER
