"""What the data report states of each image, counted where its label map is at hand.

labels      uint16 or uint32 (H, W)  as painted, 0 background
separated   as labels                without the pixels where instances touch
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from unet_keras.records.schema import Record

IOU_THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))
_TABLE_CELLS = 4_000_000  # up to here a table of all pairs is faster than sorting the pixels


@dataclass(frozen=True)
class ImageFigures:
    """One image in figures.

    Attributes:
        image_id: Unique within its source.
        file_name: The image's name, without folders.
        split: `train`, `val` or `test`.
        group: The cell type in LIVECell.
        height: In pixels.
        width: In pixels.
        pixels_digest: Of the grey values alone; equal for copies under other names.
        instances: Number of instances, vanished ones too.
        labeled_pixels: Pixels that an instance owns.
        touching_instances: Instances that have a pixel beside another instance.
        accuracy_connected: Segmentation accuracy of the connected components of the labels, in
            [0, 1].
        accuracy_separated: The same after touching instances are separated.
        without_pixels: Annotated instances that cover no pixel, left out.
        pieces: Connected components of the instance, where there is but one; else 0.
        class_pixels: Of class 1, 2, ... the pixels that its instances own, and those that are left
            when touching instances are separated.
    """

    image_id: str
    file_name: str
    split: str
    group: str
    height: int
    width: int
    pixels_digest: str
    instances: int
    labeled_pixels: int
    touching_instances: int
    accuracy_connected: float
    accuracy_separated: float
    without_pixels: int = 0
    pieces: int = 0
    class_pixels: Sequence[Sequence[int]] = ()

    @classmethod
    def of(
        cls, record: Record, separated: np.ndarray, owners: "Owners", *, without_pixels: int = 0
    ) -> "ImageFigures":
        """Count one record, whose labels are given with and without their contact lines.

        Args:
            record: Has them with the contact lines.
            separated: Has them without, uint16 or uint32 (H, W).
            owners: From the record's labels.
            without_pixels: Annotated instances that were left out.
        """
        height, width = record.labels.shape
        digest = hashlib.sha256(f"{record.image.dtype} {record.image.shape}".encode())
        digest.update(np.ascontiguousarray(record.image).data)
        left = owners.left_in(separated)
        return cls(
            image_id=record.image_id,
            file_name=record.file_name,
            split=record.split,
            group=record.group,
            height=height,
            width=width,
            pixels_digest=digest.hexdigest()[:16],
            instances=len(record.outlines),
            labeled_pixels=len(owners.pixels),
            touching_instances=int((left < owners.areas).sum()),
            accuracy_connected=component_accuracy(record.labels, owners),
            accuracy_separated=component_accuracy(separated, owners),
            without_pixels=without_pixels,
            pieces=ndimage.label(record.labels)[1] if len(record.outlines) == 1 else 0,
            class_pixels=_by_class(record.classes, owners.areas[1:], left[1:]),
        )


def _by_class(classes: np.ndarray, *of_instances: np.ndarray) -> list[list[int]]:
    """Sums over the instances (n,) of class 1, 2, ..."""
    sums = [np.bincount(classes, weights=pixels)[1:].astype(int) for pixels in of_instances]
    return np.transpose(sums).tolist()


@dataclass(frozen=True, eq=False)
class Owners:
    """The labeled pixels of an image, looked up once for all that is counted of them.

    Attributes:
        pixels: int64 (q,), flat positions of the pixels that an instance owns.
        numbers: int64 (q,), the number of that instance.
        areas: int64 (n + 1,), pixels of each instance by its number; 0 at 0.
    """

    pixels: np.ndarray
    numbers: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, count: int) -> "Owners":
        """Look them up in a label map (H, W) of `count` instances."""
        pixels = np.flatnonzero(labels.ravel() > 0)
        numbers = labels.ravel()[pixels].astype(np.int64)
        return cls(pixels, numbers, np.bincount(numbers, minlength=count + 1))

    def left_in(self, foreground: np.ndarray) -> np.ndarray:
        """Count the pixels (n + 1,) that each instance has in a foreground (H, W)."""
        kept = self.numbers[foreground.ravel()[self.pixels] > 0]
        return np.bincount(kept, minlength=len(self.areas))


def component_accuracy(foreground: np.ndarray, owners: Owners) -> float:
    """Score the connected components of a perfect foreground as if they were predicted instances.

    TP / (TP + FP + FN) of matched instances, averaged over the IoU thresholds 0.5, 0.55, ... 0.95:
    what remains for a network to win or lose once every pixel is right. Pixels are connected over
    their four sides, as instances are found in predictions.

    Args:
        foreground: Integers (H, W), not 0 on a subset of the labeled pixels.
        owners: The truth.

    Returns:
        In [0, 1]; 1 where there is no instance.
    """
    components, count = ndimage.label((foreground > 0).view(np.uint8))
    truth, component, shared = _pairs(owners, components.ravel()[owners.pixels], count)
    areas = np.bincount(component, weights=shared, minlength=count + 1)
    iou = shared / (owners.areas[truth] + areas[component] - shared)
    total = np.count_nonzero(owners.areas) + count
    if not total:
        return 1.0
    hits = np.array([np.count_nonzero(iou >= level) for level in IOU_THRESHOLDS])
    # Above an IoU of 0.5 an instance has one partner at most. At 0.5 it may have two that are its
    # halves, of which one counts.
    half = iou >= IOU_THRESHOLDS[0]
    for partners in (np.bincount(truth[half]), np.bincount(component[half])):
        hits[0] -= np.count_nonzero(partners > 1)
    return float(np.mean(hits / (total - hits)))


def _pairs(
    owners: Owners, components: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of instances and components that share pixels, and how many: a joint histogram.

    Returns:
        instance (p,), component (p,) from 1, shared (p,), all int64.
    """
    size = len(owners.areas)
    keys = components * np.int64(size) + owners.numbers
    if size * (count + 1) <= _TABLE_CELLS:
        table = np.bincount(keys)
        pairs = np.flatnonzero(table)
        shared = table[pairs]
    else:
        pairs, shared = np.unique(keys, return_counts=True)
    inside = pairs >= size  # below are the pixels of no component
    return pairs[inside] % size, pairs[inside] // size, shared[inside]
