"""Masks -> instances: connected components, and outlines of all instances in one pass.

mask      integers (H, W)     0 background; else "foreground", an instance or a class number
labels    integers (H, W)     0 background, 1..n
outlines  n compressed COCO run-length codes of size (H, W)
"""

from itertools import pairwise

import numpy as np
from pycocotools import mask as coco_mask
from skimage import measure


def label_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected components of each value of a mask.

    Two pixels are connected where they share a side and a value, as instances touch where they
    share a side (`targets.separate_touching`).

    Args:
        mask: Integers (H, W), 0 background.

    Returns:
        labels, integers (H, W), 0 background, 1..n; and the mask's value in each component, (n,),
        of its dtype.
    """
    labels = measure.label(mask, background=0, connectivity=1)
    numbers, first = np.unique(labels, return_index=True)
    return labels, mask.ravel()[first[numbers > 0]]


def trace_labels(labels: np.ndarray) -> tuple[list[bytes], np.ndarray]:
    """Write the outline of each instance of a label map as a run-length code.

    Runs of all instances come from one pass over the map; a code of the whole image for each
    instance by itself would take a pass each.

    Args:
        labels: Integers (H, W), 0 background, any numbers for instances.

    Returns:
        The outlines, codes of size (H, W), and the numbers they had, (n,) in rising order.
    """
    height, width = labels.shape
    columns = labels.T.ravel()  # COCO codes run down the columns
    starts = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
    values, lengths = columns[starts], np.diff(np.r_[starts, columns.size])
    order = np.flatnonzero(values)
    order = order[np.argsort(values[order], kind="stable")]
    starts, lengths, values = starts[order], lengths[order], values[order]
    numbers, first = np.unique(values, return_index=True)
    bounds = np.append(first, len(values)).tolist()
    outlines = []
    for begin, end in pairwise(bounds) if len(numbers) else ():
        # Background and instance take turns, from the first pixel to the last.
        edges = np.stack([starts[begin:end], starts[begin:end] + lengths[begin:end]], axis=1)
        counts = np.diff(np.r_[0, edges.ravel(), columns.size]).tolist()
        code = {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}
        outlines.append(coco_mask.frPyObjects(code, height, width)["counts"])
    return outlines, numbers


def trace_mask(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> bytes:
    """Write the outline of one instance, known within a box, as a run-length code.

    Args:
        mask: bool (h, w), in the box.
        corner: Row and column of the box's first pixel in the image.
        size: Height H and width W of the image, which the box lies in.

    Returns:
        The `counts` of a code of size (H, W).
    """
    padded = np.pad(mask.T, ((0, 0), (1, 1)))
    columns, rows = np.nonzero(padded[:, 1:] != padded[:, :-1])
    edges = (corner[1] + columns) * size[0] + corner[0] + rows
    # A run that goes on at the top of the next column does not end there.
    goes_on = edges[1:] == edges[:-1]
    edges = edges[~(np.r_[goes_on, False] | np.r_[False, goes_on])] if len(edges) else edges
    counts = np.diff(np.r_[0, edges, size[0] * size[1]]).tolist()
    code = {"size": list(size), "counts": counts if counts[-1] else counts[:-1]}
    return bytes(coco_mask.frPyObjects(code, *size)["counts"])
