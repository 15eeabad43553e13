"""Label maps: instances painted into one map, told apart where they touch.

    outlines  n compressed COCO run-length codes (bytes) of size (H, W); they may overlap
    labels    uint16 (uint32 above 65,535 instances)  (H, W)  0 background, k at outlines[k - 1]

Number k belongs to outlines[k - 1], always: an instance that vanishes under others leaves a gap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unet_keras.errors import InputError
from unet_keras.targets.compiled import compiled
from unet_keras.targets.outlines import read_runs

OVERLAP_RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # The smallest instance owns a shared pixel, so that none is swallowed by a larger one.
    "smallest": lambda areas: np.argsort(areas, kind="stable")[::-1],
    # The largest instance owns it: small pieces annotated on top of a cell disappear.
    "largest": lambda areas: np.lexsort((-np.arange(len(areas)), areas)),
    # The instance that is annotated first owns it.
    "first": lambda areas: np.arange(len(areas))[::-1],
    # The instance that is annotated last owns it, as if masks were painted in turn.
    "last": lambda areas: np.arange(len(areas)),
}
"""Who owns a pixel that several instances share: areas (n,) -> the order in which to paint.

What is painted last stays. Of equally large instances, the one that is annotated first owns it.
"""


@dataclass(frozen=True)
class OverlapStatistics:
    """What overlaps cost.

    Attributes:
        shared_pixels: Pixels that lie in two instances or more.
        vanished: Numbers of the instances that own no pixel, because others own all of theirs.
        empty: Numbers of the instances whose outline holds no pixel to begin with.
    """

    shared_pixels: int
    vanished: tuple[int, ...]
    empty: tuple[int, ...]


def paint_labels(
    outlines: Sequence[bytes], shape: tuple[int, int], *, overlap: str = "smallest"
) -> np.ndarray:
    """Paint instances into one label map, run by run, without a mask an instance.

    Args:
        outlines: The `counts` of a compressed COCO run-length code of size `shape` an instance.
        shape: Height and width in pixels.
        overlap: One of `OVERLAP_RULES`: who owns a pixel that several instances share.

    Returns:
        uint16, uint32 above 65,535 instances, (H, W); k where outlines[k - 1] is, 0 elsewhere.

    Raises:
        InputError: `overlap` is unknown, or an outline is damaged or of another size.
    """
    if overlap not in OVERLAP_RULES:
        raise InputError(f"overlap={overlap!r} must be one of {', '.join(OVERLAP_RULES)}")
    runs = read_runs(outlines, shape)
    order = OVERLAP_RULES[overlap](runs.areas)
    height, width = shape
    # Runs go down the columns, so the map is painted on its side.
    dtype = np.uint16 if len(outlines) <= np.iinfo(np.uint16).max else np.uint32
    columns = np.zeros(width * height, dtype)
    _paint(runs.starts, runs.stops, runs.first, order, columns)
    return np.ascontiguousarray(columns.reshape(width, height).T)


def overlap_statistics(outlines: Sequence[bytes], labels: np.ndarray) -> OverlapStatistics:
    """Count what the outlines share, and name the instances that the label map has lost.

    Args:
        outlines: As in `paint_labels`.
        labels: What `paint_labels` made of them, (H, W).

    Returns:
        The number of shared pixels and the numbers of vanished and of empty instances.

    Raises:
        InputError: An outline is damaged or of another size than `labels`.
    """
    height, width = labels.shape
    runs = read_runs(outlines, (height, width))
    empty = runs.areas == 0
    present = np.bincount(labels.ravel(), minlength=len(outlines) + 1)[1:] > 0
    return OverlapStatistics(
        shared_pixels=_count_shared(runs.starts, runs.stops, np.zeros(labels.size, np.uint8)),
        vanished=_numbers(~present & ~empty),
        empty=_numbers(empty),
    )


def separate_touching(labels: np.ndarray) -> np.ndarray:
    """Open a gap between touching instances: the foreground the network learns.

    Every pixel with a 4-neighbor in another instance becomes background, on both sides of the
    contact line (Ronneberger et al. 2015 separate touching cells by morphology). Diagonal contact
    stays. Thin instances may fall into pieces or vanish.

    Args:
        labels: Any integer dtype, (H, W), 0 background.

    Returns:
        A copy of the same dtype and shape, with such pixels 0.

    Raises:
        InputError: `labels` is no label map.
    """
    _require_label_map(labels)
    return np.where(_at_contact(labels), labels.dtype.type(0), labels)


def outline_pixels(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """Mark the outermost pixels of each instance: those with a 4-neighbor that it does not own.

    Of more width, also the outermost pixels of what is left then, and so on.

    Where instances touch, both have theirs; the image's edge is no outline.

    Args:
        labels: Any integer dtype, (H, W), 0 background.
        width: In pixels, at least 1.

    Returns:
        bool (H, W).

    Raises:
        InputError: `labels` is no label map.
    """
    _require_label_map(labels)
    inside = labels.copy()
    for _ in range(width):
        marked = np.zeros(labels.shape, bool)
        for lines, marks in ((inside, marked), (inside.T, marked.T)):
            differ = lines[:-1] != lines[1:]
            marks[:-1] |= differ
            marks[1:] |= differ
        inside[marked] = 0
    return (labels > 0) & (inside == 0)


def touching_share(labels: np.ndarray) -> float:
    """Share of the instances that have a 4-neighbor in another one.

    Args:
        labels: Any integer dtype, (H, W), 0 background.

    Returns:
        Between 0 and 1; 0 without instances.

    Raises:
        InputError: `labels` is no label map.
    """
    labels = plain_labels(labels)
    touching = np.count_nonzero(np.bincount(labels[_at_contact(labels)]))
    instances = np.count_nonzero(np.bincount(labels.ravel())[1:])
    return touching / instances if instances else 0.0


def plain_labels(labels: np.ndarray) -> np.ndarray:
    """Check a label map and bring it into one of the two forms that compiled code takes.

    Args:
        labels: Any integer dtype and memory order, (H, W), 0 background.

    Returns:
        uint16 or int32 (H, W), contiguous; `labels` itself where it is so. Numbers that are larger
        than the map has pixels are replaced by smaller ones, one for one.

    Raises:
        InputError: Not two-dimensional, not of integers, or with negative numbers.
    """
    _require_label_map(labels)
    largest = int(labels.max(initial=0))
    if largest <= np.iinfo(np.uint16).max:
        return np.ascontiguousarray(labels, np.uint16)
    if largest > labels.size:
        numbers, found = np.unique(labels, return_inverse=True)
        labels = found.reshape(labels.shape) + int(numbers[0] != 0)  # flat from NumPy 1
    return np.ascontiguousarray(labels, np.int32)


def _require_label_map(labels: np.ndarray) -> None:
    if not isinstance(labels, np.ndarray) or labels.ndim != 2:
        raise InputError(
            f"labels ({type(labels).__name__} of shape {np.shape(labels)}) must be one NumPy array "
            "(H, W) that holds in every pixel the number of its instance"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels of dtype {labels.dtype} must be integers, one number an instance; "
            "number the instances of a mask with scipy.ndimage.label"
        )
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise InputError(f"labels hold {labels.min()}, but must be 0 (background) or above")


def _at_contact(labels: np.ndarray) -> np.ndarray:
    """Pixels (bool, (H, W)) that have a 4-neighbor in another instance."""
    inside = labels != 0
    contact = np.zeros(labels.shape, bool)
    beside = (labels[:, 1:] != labels[:, :-1]) & inside[:, 1:] & inside[:, :-1]
    contact[:, 1:] |= beside
    contact[:, :-1] |= beside
    below = (labels[1:] != labels[:-1]) & inside[1:] & inside[:-1]
    contact[1:] |= below
    contact[:-1] |= below
    return contact


def _numbers(selected: np.ndarray) -> tuple[int, ...]:
    return tuple(int(k) + 1 for k in np.flatnonzero(selected))


@compiled
def _paint(
    starts: np.ndarray, stops: np.ndarray, first: np.ndarray, order: np.ndarray, out: np.ndarray
) -> None:
    """Paint the runs of each instance over those that come before it in `order`."""
    for k in order:
        for run in range(first[k], first[k + 1]):
            out[starts[run] : stops[run]] = k + 1


@compiled
def _count_shared(starts: np.ndarray, stops: np.ndarray, depth: np.ndarray) -> int:
    """Count the pixels that lie in two runs or more; depth (pixels,) is 0 to begin with."""
    shared = 0
    for run in range(starts.size):
        for pixel in range(starts[run], stops[run]):
            shared += depth[pixel] == 1
            depth[pixel] = min(depth[pixel] + 1, 2)
    return shared
