"""Border weights between neighboring instances, exact whatever the number of instances.

    labels   any integer  (H, W)  0 background, one positive number an instance
    border   float32      (H, W)  in [0, 1]; near 1 where two instances almost touch, 0 inside them

e(x) = exp(-(d1(x) + d2(x))² / (2 σ²)), what w0 multiplies in eq. 2 of Ronneberger et al. 2015, with
d1 and d2 the distances to the nearest and the second nearest instance. One Euclidean distance
transform an instance is the plain way; here all instances share one pass over the columns and one
over the rows.

Columns: for every pixel, the nearest pixel above or below it and the nearest one of any other
instance. Two are enough: an instance that comes third in a column is beaten by the same two from
everywhere in that pixel's row.

Rows: d1² and d2² are minima over the neighboring columns of dx² plus what the column holds. All
pixels of a block look one column further left and right at a time, which the processor does for
16 of them at once, until no column further out can change any of them: dx has passed d2, or
d1 + dx has passed the reach, the sum of distances from which e stays below 1e-6.
"""

import math

import numpy as np

from unet_keras.errors import InputError
from unet_keras.targets.compiled import compiled
from unet_keras.targets.labels import plain_labels

SMALLEST_BORDER = 1e-6
"""What e is rounded to 0 below; a record stores steps of 1.5e-5."""

_BLOCK = 64  # pixels that share one search: more use the processor better, fewer stop earlier
_float = np.float32  # a Python float would make compiled code work in float64, at half the speed

Lists = tuple[np.ndarray, np.ndarray, np.ndarray]
"""For each column, a row a state: the nearest pixel, the nearest of another instance (both float32,
as row numbers or squared distances), and the instance (int32) that owns the nearest."""


def border_map(labels: np.ndarray, *, sigma_pixels: float = 5.0) -> np.ndarray:
    """Weigh the background by how narrow the gap between its two nearest instances is.

    e(x) = exp(-(d1(x) + d2(x))² / (2 σ²)) outside instances and 0 inside them (Ronneberger et al.
    2015, U-Net, eq. 2, without w0 and w_c). A distance is the Euclidean one between pixel centers,
    to the nearest pixel of an instance, which may consist of several pieces. Exact to float32;
    values below `SMALLEST_BORDER` are 0. With fewer than two instances e is 0 everywhere.

    Touching instances leave no gap that could be weighed: `separate_touching` opens one.

    Args:
        labels: Any integer dtype, (H, W), 0 background, any positive number for an instance.
        sigma_pixels: Width σ of the border in pixels, above 0; the time grows with it.

    Returns:
        float32 (H, W) in [0, 1].

    Raises:
        InputError: `labels` is no label map, or `sigma_pixels` is not a positive number.
    """
    labels = plain_labels(labels)
    if not (math.isfinite(sigma_pixels) and sigma_pixels > 0):
        raise InputError(
            f"sigma_pixels={sigma_pixels} must be above 0: it is the width of a border in pixels; "
            "Ronneberger et al. (2015) use 5.0"
        )
    height, width = labels.shape
    # d1 + d2 is at least 2 and never exceeds two image diagonals.
    reach = min(sigma_pixels * math.sqrt(-2 * math.log(SMALLEST_BORDER)), 2.0 * (height + width))
    if reach < 2 or labels.size == 0:
        return np.zeros(labels.shape, np.float32)
    exponents = np.empty(labels.shape, np.float32)
    _border_exponents(labels, np.float32(reach), np.float32(1 / sigma_pixels), exponents)
    return np.exp(exponents, out=exponents)


@compiled
def _border_exponents(
    labels: np.ndarray, reach: np.float32, per_sigma: np.float32, out: np.ndarray
) -> None:
    """Fill out (H, W) with -(d1 + d2)² / (2 σ²), or -inf where e is 0."""
    height, width = labels.shape
    never = _float(4 * (height + width + 1))  # as a distance, beyond any pixel and any reach
    margin = min(int(reach) + 1, max(height, width))
    # Rows come from top to bottom, but what lies below a row is known from the bottom up. It is
    # prepared for as many rows as the reach at a time, little enough to stay in the cache.
    above = _make_lists(2, width, -never)
    below = _make_lists(min(2 * margin, height) + 1, width, never)
    padded_width = (width + _BLOCK - 1) // _BLOCK * _BLOCK + 2 * margin
    columns = _make_lists(1, padded_width, never * never)
    for top in range(0, height, margin):
        last = min(2 * margin, height - top)
        below[0][last], below[1][last], below[2][last] = never, never, 0
        for i in range(last - 1, -1, -1):
            _pass_row(labels[top + i], _float(top + i), below, i + 1, i)
        for y in range(top, min(top + margin, height)):
            _pass_row(labels[y], _float(y), above, y % 2, (y + 1) % 2)
            _join(_float(y), above, (y + 1) % 2, below, y - top, columns, margin)
            _search_row(columns, margin, reach, per_sigma, out[y])


@compiled
def _make_lists(rows: int, width: int, empty: np.float32) -> Lists:
    """Lists that have met no instance yet."""
    shape = (rows, width)
    return np.full(shape, empty), np.full(shape, empty), np.zeros(shape, np.int32)


@compiled
def _pass_row(row: np.ndarray, y: np.float32, seen: Lists, before: int, after: int) -> None:
    """State `after` of the lists is state `before` with one more row passed.

    A change of the owner makes the last pixel of the previous one the nearest of another.
    """
    nearest, other, owner = seen[0][before], seen[1][before], seen[2][before]
    new_nearest, new_other, new_owner = seen[0][after], seen[1][after], seen[2][after]
    for x in range(row.size):
        label = np.int32(row[x])
        near, second, own = nearest[x], other[x], owner[x]
        new_other[x] = near if label != 0 and label != own else second
        new_owner[x] = label if label != 0 else own
        new_nearest[x] = y if label != 0 else near


@compiled
def _join(
    y: np.float32, above: Lists, i: int, below: Lists, j: int, columns: Lists, margin: int
) -> None:
    """Put what lies above and below row y together, as squared distances, inside the margins."""
    up_nearest, up_other, up_owner = above[0][i], above[1][i], above[2][i]
    down_nearest, down_other, down_owner = below[0][j], below[1][j], below[2][j]
    inner = slice(margin, margin + up_nearest.size)
    nearest, other, owner = columns[0][0, inner], columns[1][0, inner], columns[2][0, inner]
    for x in range(up_nearest.size):
        up, up2, up_own = y - up_nearest[x], y - up_other[x], up_owner[x]
        down, down2, down_own = down_nearest[x] - y, down_other[x] - y, down_owner[x]
        first = up if up < down else down
        # Above and below either show one instance, or the further one is a second.
        second2 = up2 if up < down else down2
        further = down if up < down else up
        second2_or_further = second2 if second2 < further else further
        lower2 = up2 if up2 < down2 else down2
        second = lower2 if up_own == down_own else second2_or_further
        nearest[x] = first * first
        other[x] = second * second
        owner[x] = up_own if up < down else down_own


@compiled
def _search_row(
    columns: Lists, margin: int, reach: np.float32, per_sigma: np.float32, out: np.ndarray
) -> None:
    """Fill one row of the exponents, a block of pixels at a time."""
    nearest = np.empty(_BLOCK, np.float32)
    second = np.empty(_BLOCK, np.float32)
    owner = np.empty(_BLOCK, np.int32)
    for start in range(0, out.size, _BLOCK):
        _find_nearest(columns, margin + start, min(int(reach / 2), margin), nearest, owner)
        _limit_second(nearest, reach, second)
        _find_second(columns, margin + start, margin, owner, second)
        _fill_exponents(nearest, second, reach, per_sigma, out[start : start + _BLOCK])


@compiled
def _find_nearest(
    columns: Lists, start: int, furthest: int, nearest: np.ndarray, owner: np.ndarray
) -> None:
    """Find d1² and its instance for the pixels of a block that begins at column `start`.

    Right up to `furthest` columns away. That is half the reach: beyond it, d2 is beyond the rest.
    """
    column_nearest, column_owner = columns[0][0], columns[2][0]
    for i in range(_BLOCK):  # as a slice, the message about unequal shapes takes 3 s to compile
        nearest[i], owner[i] = column_nearest[start + i], column_owner[start + i]
    for dx in range(1, furthest + 1):
        square, next_square = _float(dx * dx), _float((dx + 1) * (dx + 1))
        left = column_nearest[start - dx : start - dx + _BLOCK]
        left_owner = column_owner[start - dx : start - dx + _BLOCK]
        right = column_nearest[start + dx : start + dx + _BLOCK]
        right_owner = column_owner[start + dx : start + dx + _BLOCK]
        open_pixels = 0
        for i in range(_BLOCK):
            a, b, a_owner, b_owner = left[i], right[i], left_owner[i], right_owner[i]
            found, found_owner = nearest[i], owner[i]
            side = (a if a < b else b) + square
            side_owner = a_owner if a < b else b_owner
            owner[i] = side_owner if side < found else found_owner
            found = side if side < found else found
            nearest[i] = found
            open_pixels += found > next_square
        if open_pixels == 0:
            break


@compiled
def _limit_second(nearest: np.ndarray, reach: np.float32, second: np.ndarray) -> None:
    """Start d2² just beyond the reach, or at 0 for pixels that need no search."""
    for i in range(_BLOCK):
        d1_squared = nearest[i]
        rest = reach - np.sqrt(d1_squared)
        # A little more, so that rounding never takes an untouched limit for a distance.
        limit = rest * rest * _float(1.00001) + _float(1)
        searched = d1_squared > 0 and d1_squared <= reach * reach * _float(0.25)
        second[i] = limit if searched else _float(0)


@compiled
def _find_second(
    columns: Lists, start: int, furthest: int, owner: np.ndarray, second: np.ndarray
) -> None:
    """Lower d2² to the nearest pixel of any instance but the owner of d1."""
    column_nearest, column_other, column_owner = columns[0][0], columns[1][0], columns[2][0]
    for dx in range(furthest + 1):
        square, next_square = _float(dx * dx), _float((dx + 1) * (dx + 1))
        left = column_nearest[start - dx : start - dx + _BLOCK]
        left_other = column_other[start - dx : start - dx + _BLOCK]
        left_owner = column_owner[start - dx : start - dx + _BLOCK]
        right = column_nearest[start + dx : start + dx + _BLOCK]
        right_other = column_other[start + dx : start + dx + _BLOCK]
        right_owner = column_owner[start + dx : start + dx + _BLOCK]
        open_pixels = 0
        for i in range(_BLOCK):
            # All are loaded before one is chosen: a choice between addresses is not vectorized.
            a, a_other, b, b_other = left[i], left_other[i], right[i], right_other[i]
            found, own = second[i], owner[i]
            a = a_other if left_owner[i] == own else a
            b = b_other if right_owner[i] == own else b
            side = (a if a < b else b) + square
            found = side if side < found else found
            second[i] = found
            open_pixels += found > next_square
        if open_pixels == 0:
            break


@compiled
def _fill_exponents(
    nearest: np.ndarray,
    second: np.ndarray,
    reach: np.float32,
    per_sigma: np.float32,
    out: np.ndarray,
) -> None:
    """Turn d1² and d2² of a block into exponents."""
    for i in range(out.size):
        total = np.sqrt(nearest[i]) + np.sqrt(second[i])
        in_sigmas = total * per_sigma
        near = second[i] > 0 and total <= reach
        out[i] = _float(-0.5) * in_sigmas * in_sigmas if near else _float(-np.inf)
