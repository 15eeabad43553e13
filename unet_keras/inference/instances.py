"""From foreground probabilities to instances.

    probabilities  float  (H, W) or (H, W, 1)  in [0, 1], what `predict_tiled` returns for one class
    labels         uint16 (H, W)  0 background, 1..n instances; uint32 above 65,535 of them

The network learns a foreground in which cells that touch are parted by two pixels (one off each,
`targets.separate_touching`). So instances are what hangs together in it, and the parted pixels are
given back afterwards.

Pixels hang together over edges, not over corners. The separation looks at the four neighbors, so
two cells that meet at a corner only stay whole and would be one again with eight: on the 12 shared
LIVECell images the separated truth scores 0.86 mean segmentation accuracy by four, 0.42 by eight.
The background, in turn, hangs together over corners, or a hole would not end where its ring does.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from unet_keras.errors import InputError

Method = Literal["components", "watershed"]
METHODS = ("components", "watershed")

FOUR_NEIGHBORS = ndimage.generate_binary_structure(2, 1)
EIGHT_NEIGHBORS = ndimage.generate_binary_structure(2, 2)

# Seeds are looked for in whole thousandths: plateaus of a saturated sigmoid stay one maximum.
SEED_LEVELS = 1000


Part = tuple[slice, slice]
EVERYTHING = slice(None), slice(None)


@dataclass(frozen=True)
class InstanceRules:
    """How probabilities become instances; the arguments of `label_instances`.

    Attributes:
        threshold: Probability from which a pixel is foreground.
        minimum_area: Smaller instances, in pixels before they grow, are taken for dirt.
        method: `components` or `watershed`.
        seed_prominence: What makes a maximum an instance of its own, in [0, 1] (watershed).
        seed_smoothing: How far maxima are smoothed before, in pixels (watershed).
        grow_pixels: How many pixels the separation took off each of two touching instances.
    """

    threshold: float = 0.5
    minimum_area: int = 10
    method: Method = "components"
    seed_prominence: float = 0.2
    seed_smoothing: float = 0.0
    grow_pixels: int = 1

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> "InstanceRules":
        """The rules that a model's metadata state (`loading.describe_run`), else the defaults."""
        values = {field.name: known[field.name] for field in fields(cls) if field.name in known}
        if not known.get("separate", True):
            values["grow_pixels"] = 0
        return cls(**values)

    def label(self, probabilities: np.ndarray, part: Part = EVERYTHING) -> np.ndarray:
        """Find the instances in a probability map (H, W), or in a part of it.

        Beyond the part, as far as `smoothing_reach`, the map serves smoothing alone.

        Returns:
            uint16, uint32 above 65,535 instances; the size of the part.

        Raises:
            InputError: As `label_instances`.
        """
        if self.method == "components" or not self.seed_smoothing:
            return label_instances(probabilities[part], **asdict(self))
        smooth = ndimage.gaussian_filter(_single_map(probabilities, "p"), self.seed_smoothing)
        rest = asdict(replace(self, seed_smoothing=0.0))
        return label_instances(probabilities[part], distance=smooth[part], **rest)

    @property
    def smoothing_reach(self) -> int:
        """How far around a pixel the smoothing looks, in pixels: SciPy's four deviations."""
        return int(4 * self.seed_smoothing + 0.5) if self.method == "watershed" else 0

    def at_scale(self, scale: float) -> "InstanceRules":
        """The same rules for an image whose pixels are `scale` times those these were made for."""
        return replace(
            self,
            minimum_area=round(self.minimum_area / scale**2),
            seed_smoothing=self.seed_smoothing / scale,
            grow_pixels=max(round(self.grow_pixels / scale), min(self.grow_pixels, 1)),
        )


def foreground_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the probability of foreground, (H, W) in [0, 1], from those of the classes, (H, W, K).

    Of several, class 0 is the background.
    """
    if probabilities.shape[-1] == 1:
        return probabilities[..., 0]
    return 1.0 - probabilities[..., 0]


def label_instances(
    probabilities: ArrayLike,
    *,
    threshold: float = 0.5,
    minimum_area: int = 0,
    fill_holes: bool = True,
    grow: bool = True,
    grow_pixels: int = 1,
    method: Method = "components",
    distance: ArrayLike | None = None,
    seed_prominence: float = 0.2,
    seed_smoothing: float = 0.0,
) -> np.ndarray:
    """Find the instances in a probability map.

    The same input gives the same labels, numbered in the order of their first pixel, row by row.

    Args:
        probabilities: Float (H, W) or (H, W, 1), in [0, 1]: probability of foreground.
        threshold: Probability from which a pixel is foreground.
        minimum_area: Smaller instances, in pixels before they grow, are taken for dirt.
        fill_holes: Whether background that a single instance encloses becomes part of it.
        grow: Whether the pixels that the separation took are given back (`grow_into_gaps`).
        grow_pixels: How many pixels the separation took off each of two touching instances.
        method: `components` takes each connected component for an instance (2015); `watershed`
            also splits components that have several maxima, which mends gaps that the network saw
            but did not bring below the threshold.
        distance: Float (H, W) or (H, W, 1), in [0, 1]: the predicted distance map, whose maxima
            the watershed starts from; by default those of the probability.
        seed_prominence: How far a maximum must rise above the saddle to a higher one to be an
            instance of its own, in units of the map it is found in. Of trained networks, 0.2 to
            0.3 did best; 0.1 split cells by their texture.
        seed_smoothing: Standard deviation in pixels of a Gaussian that takes the texture of cells
            out of that map first; a smaller prominence fits then.

    Returns:
        uint16 (H, W), uint32 above 65,535 instances.

    Raises:
        InputError: A map of another shape or range, an unknown method, a negative amount.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    amounts = {
        "minimum_area": minimum_area, "grow_pixels": grow_pixels, "seed_smoothing": seed_smoothing
    }  # fmt: skip
    for name, value in amounts.items():
        if value < 0:
            raise InputError(f"{name}={value} must be at least 0")
    foreground = _single_map(probabilities, "probabilities")
    if foreground.size == 0:
        return np.zeros(foreground.shape, np.uint16)
    labels, _ = ndimage.label(foreground >= threshold, structure=FOUR_NEIGHBORS)
    labels = _remove_small(labels, minimum_area)
    if method == "watershed":
        landscape = foreground if distance is None else _single_map(distance, "distance")
        if seed_smoothing > 0:
            landscape = ndimage.gaussian_filter(landscape, seed_smoothing)
        labels = split_at_saddles(labels > 0, landscape, prominence=seed_prominence)
        labels = _remove_small(labels, minimum_area)
    if fill_holes:  # of single instances: what several surround, in one component, is none
        labels = fill_enclosed_holes(labels)
    if grow:
        labels = grow_into_gaps(labels, grow_pixels)
    return _number(labels)


def fill_enclosed_holes(labels: np.ndarray) -> np.ndarray:
    """Give each hole of an instance to it.

    A hole is background that neither reaches the image's edge nor borders on a second instance:
    the ring around a nested cell is none, and neither is the space that several cells enclose.

    Args:
        labels: Integer (H, W), 0 background.

    Returns:
        Integer (H, W), a copy with the holes filled.
    """
    filled = labels.copy()
    pieces, count = ndimage.label(labels == 0, structure=EIGHT_NEIGHBORS)
    enclosed = np.ones(count + 1, bool)
    enclosed[0] = False
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        enclosed[edge] = False
    rows, columns = np.nonzero(enclosed[pieces])
    piece = pieces[rows, columns]
    lowest = np.full(count + 1, np.iinfo(np.int64).max)
    highest = np.zeros(count + 1, np.int64)
    for row, column in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        neighbor = labels[rows + row, columns + column].astype(np.int64)
        beside = neighbor > 0
        np.minimum.at(lowest, piece[beside], neighbor[beside])
        np.maximum.at(highest, piece[beside], neighbor[beside])
    single = lowest[piece] == highest[piece]
    filled[rows[single], columns[single]] = lowest[piece[single]]
    return filled


def split_at_saddles(
    mask: np.ndarray, landscape: np.ndarray, *, prominence: float = 0.2
) -> np.ndarray:
    """Split the components of a mask by a watershed seeded at the landscape's maxima.

    A maximum is a seed where it rises by more than `prominence` above the highest saddle to a
    higher maximum (as the h-maxima of Soille, Morphological Image Analysis, 2nd ed., section 6.3.4,
    which also count those that rise by just as much).
    Each component of the mask has at least one seed, so none is lost.

    Args:
        mask: Bool (H, W): the pixels to share out.
        landscape: Float (H, W), in [0, 1]: high in the middle of instances.
        prominence: In units of the landscape, to a thousandth.

    Returns:
        int32 (H, W), 0 outside the mask, 1..n inside.

    Raises:
        InputError: The two differ in size.
    """
    if mask.shape != landscape.shape:
        raise InputError(
            f"the map to split by has size {landscape.shape}, the foreground {mask.shape}: "
            "give a map of the same image"
        )
    rise = max(round(prominence * SEED_LEVELS), 1)
    # Lifted by the rise, so that also a component lower than it keeps its maximum.
    heights = np.where(mask, np.rint(landscape * SEED_LEVELS).astype(np.int32) + rise + 1, 0)
    # A frame of zeros, because a maximum is one only beside something lower.
    heights = np.pad(heights, 1)
    lowered = np.maximum(heights - rise, 0)
    leveled = reconstruction(lowered, heights, footprint=FOUR_NEIGHBORS)
    maxima = local_maxima(leveled, connectivity=1) & (heights > 0)
    seeds, _ = ndimage.label(maxima, structure=FOUR_NEIGHBORS)
    parts = watershed(-heights, seeds, connectivity=1, mask=heights > 0)
    return parts[1:-1, 1:-1].astype(np.int32)


def grow_into_gaps(labels: np.ndarray, grow_pixels: int = 1) -> np.ndarray:
    """Give the pixels between instances that almost touch to the nearest of them.

    The inverse of `targets.separate_touching`: instances grow by `grow_pixels`, and of what they
    gained they keep only what that separation would take again. So an outline with background
    beside it stays where it is. On the truth of the 12 shared LIVECell images this raises the mean
    segmentation accuracy from 0.86 to 0.95; growing all round lowers it to 0.76.

    Args:
        labels: Integer (H, W), 0 background.
        grow_pixels: Pixels taken off each side; 0 changes nothing.

    Returns:
        Integer (H, W), a copy in which no pixel of an instance has changed.
    """
    grown = labels.copy()
    if grow_pixels == 0:
        return grown
    height, width = labels.shape
    around = np.pad(labels, grow_pixels)
    for row, column in _offsets_by_distance(grow_pixels):
        top, left = grow_pixels + row, grow_pixels + column
        neighbor = around[top : top + height, left : left + width]
        np.copyto(grown, neighbor, where=grown == 0)
    contact = _touches_another(grown)
    if grow_pixels > 1:
        contact = ndimage.binary_dilation(contact, FOUR_NEIGHBORS, iterations=grow_pixels - 1)
    return np.where(contact, grown, labels)


def _offsets_by_distance(radius: int) -> list[tuple[int, int]]:
    """All (row, column) steps of at most `radius`, the nearest first."""
    span = range(-radius, radius + 1)
    steps = [(row * row + column * column, row, column) for row in span for column in span]
    return [(row, column) for squared, row, column in sorted(steps) if 0 < squared <= radius**2]


def _touches_another(labels: np.ndarray) -> np.ndarray:
    """Bool (H, W): pixels of an instance with a pixel of another one beside them."""
    touches = np.zeros(labels.shape, bool)
    for lines, marks in ((labels, touches), (labels.T, touches.T)):
        before, after = lines[:-1], lines[1:]
        meet = (before != after) & (before > 0) & (after > 0)
        marks[:-1] |= meet
        marks[1:] |= meet
    return touches


def _remove_small(labels: np.ndarray, minimum_area: int) -> np.ndarray:
    """Labels (H, W) without the instances of fewer pixels; the others keep their numbers."""
    if minimum_area <= 1:
        return labels
    areas = np.bincount(labels.ravel())
    kept = np.where(areas >= minimum_area, np.arange(areas.size), 0)
    return kept.astype(labels.dtype)[labels]


def _number(labels: np.ndarray) -> np.ndarray:
    """Number the instances 1..n in the order of their first pixel, in the smallest type."""
    flat = labels.ravel()
    first = np.full(int(flat.max(initial=0)) + 1, -1)
    # Written back to front, the first pixel of each number is the one that stays.
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    first[0] = -1
    present = np.flatnonzero(first >= 0)
    dtype = np.uint16 if present.size <= np.iinfo(np.uint16).max else np.uint32
    numbers = np.zeros(first.size, dtype)
    numbers[present[np.argsort(first[present])]] = np.arange(1, present.size + 1)
    return numbers[labels]


def _single_map(values: ArrayLike, name: str) -> np.ndarray:
    """Check a map and take away its channel axis: float32 (H, W)."""
    array = np.asarray(values)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise InputError(
            f"{name} has shape {array.shape}, expected (H, W) or (H, W, 1): "
            "give one image and one class, such as probabilities[..., 1]"
        )
    array = array.astype(np.float32, copy=False)
    # The comparison is turned so that NaN fails it.
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"{name} has values from {array.min():g} to {array.max():g}, expected 0 to 1: "
            "give probabilities, not logits or grey values"
        )
    return array
