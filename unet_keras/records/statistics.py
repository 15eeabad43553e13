"""What a conversion counts, image by image; parts add up to the same in whatever process they ran.

Numbers are merged in the order of the images, never in the order in which workers finish, so that
floating-point sums, and with them the manifest, are the same for any number of workers.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.records.figures import ImageFigures, Owners
from unet_keras.records.schema import Record
from unet_keras.targets.labels import outline_pixels, separate_touching
from unet_keras.targets.outlines import read_runs


@dataclass
class GreyValues:
    """Count, mean and sum of squared deviations of grey values, which merge without cancellation.

    Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm for variances.

    Attributes:
        count: Values of all pixels and channels.
        mean: Their mean; 0 without any.
        squares: Sum of their squared deviations from it, at least 0.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, other: "GreyValues") -> None:
        """Merge the values of another set into this one."""
        count = self.count + other.count
        if other.count:
            shift = other.mean - self.mean
            self.squares += other.squares + shift * shift * self.count * other.count / count
            self.mean += shift * other.count / count
            self.count = count

    @classmethod
    def of(cls, image: np.ndarray) -> "GreyValues":
        """Measure one image, uint8, uint16 or float32 of any shape."""
        if image.dtype.kind == "u":  # few values, many pixels
            counts = np.bincount(image.ravel()).astype(np.float64)
            values = np.arange(len(counts), dtype=np.float64)
        else:
            counts, values = np.ones(1), image.ravel().astype(np.float64)
        mean = float((counts * values).sum() / image.size)
        return cls(image.size, mean, float((counts * np.square(values - mean)).sum()))


@dataclass
class Statistics:
    """Counts over some images of one split.

    Attributes:
        images: Number of images.
        instances: Number of instances, vanished ones too.
        pixels: Pixels of all images together, each counted once whatever its channels.
        groups: Images, instances and labeled pixels by group.
        class_pixels: Foreground pixels by class index, "0" for the background.
        grey: Of all pixels and channels.
        ranges: Lowest and highest of the images' `grey_mean`, `grey_deviation` and `cell_area`, the
            median area of an image's instances in pixels.
        kinds: `dtype x channels` of the images, with the name of one.
        sizes: Smallest and largest height and width; empty without images.
        most_instances: Of one image.
        shared_pixels: Claims on pixels that another instance got.
        cut_instances: Instances that lost a pixel to another.
        vanished: Numbers of instances that lost all of theirs, by image id.
        touching_instances: Instances that lose a pixel when touching ones are separated.
        outline_pixels: Outermost pixels of instances.
        without_pixels: Annotated instances that cover no pixel, left out.
        sources: SHA-256 of what was read, one an image, in order.
        figures: What the data report states, one an image, in order.
    """

    images: int = 0
    instances: int = 0
    pixels: int = 0
    groups: dict[str, list[int]] = field(default_factory=dict)
    class_pixels: dict[str, int] = field(default_factory=dict)
    grey: GreyValues = field(default_factory=GreyValues)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    most_instances: int = 0
    shared_pixels: int = 0
    cut_instances: int = 0
    vanished: dict[str, list[int]] = field(default_factory=dict)
    touching_instances: int = 0
    outline_pixels: int = 0
    without_pixels: int = 0
    sources: list[str] = field(default_factory=list)
    figures: list[ImageFigures] = field(default_factory=list)

    @classmethod
    def of(cls, record: Record, foreground: np.ndarray, *, without_pixels: int = 0) -> "Statistics":
        """Count one record.

        Args:
            record: The record.
            foreground: Its labels without the pixels where instances touch, uint16 or uint32
                (H, W).
            without_pixels: Annotated instances that were left out.
        """
        count = len(record.outlines)
        areas = read_runs(record.outlines, record.labels.shape).areas
        owners = Owners.of(record.labels, count)
        painted, separated = owners.areas[1:], owners.left_in(foreground)
        separated[0] = record.labels.size - separated.sum()
        pixels = np.bincount(
            np.concatenate([[0], record.classes]).astype(np.int64), weights=separated
        )
        channels = record.image.shape[2] if record.image.ndim == 3 else 1
        height, width = record.labels.shape
        vanished = np.flatnonzero((painted == 0) & (areas > 0)) + 1
        # The report compares with and without separation, whatever is asked for.
        grey = GreyValues.of(record.image)
        parted = foreground if foreground is not record.labels else separate_touching(foreground)
        return cls(
            images=1,
            instances=count,
            pixels=height * width,
            groups={record.group: [1, count, int(painted.sum())]},
            class_pixels={str(k): int(n) for k, n in enumerate(pixels) if n},
            grey=grey,
            ranges=_ranges(grey, painted),
            kinds={f"{record.image.dtype} x {channels}": record.file_name},
            sizes=[height, width, height, width],
            most_instances=count,
            shared_pixels=int(areas.sum() - painted.sum()),
            cut_instances=int((painted < areas).sum()),
            vanished={record.image_id: vanished.tolist()} if len(vanished) else {},
            touching_instances=int((separated[1:] < painted).sum()),
            outline_pixels=int(outline_pixels(record.labels).sum()),
            without_pixels=without_pixels,
            sources=[record.source_digest],
            figures=[ImageFigures.of(record, parted, owners, without_pixels=without_pixels)],
        )

    def add(self, other: "Statistics") -> None:
        """Merge the counts of further images into these.

        Raises:
            InputError: Their images have another dtype or number of channels.
        """
        for group, counts in other.groups.items():
            mine = self.groups.setdefault(group, [0] * len(counts))
            self.groups[group] = [a + b for a, b in zip(mine, counts, strict=True)]
        if self.sizes and other.sizes:
            low = [min(a, b) for a, b in zip(self.sizes[:2], other.sizes[:2], strict=True)]
            high = [max(a, b) for a, b in zip(self.sizes[2:], other.sizes[2:], strict=True)]
            self.sizes = low + high
        self.sizes = self.sizes or list(other.sizes)
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        # Extended, not added: a list that is copied for each part takes hours for a million images.
        self.sources.extend(other.sources)
        self.figures.extend(other.figures)
        for index, count in other.class_pixels.items():
            self.class_pixels[index] = self.class_pixels.get(index, 0) + count
        self.grey.add(other.grey)
        for name, theirs in other.ranges.items():
            ours = self.ranges.get(name, theirs)
            self.ranges[name] = (min(ours[0], theirs[0]), max(ours[1], theirs[1]))
        self.most_instances = max(self.most_instances, other.most_instances)
        self.vanished |= other.vanished
        self.kinds = other.kinds | self.kinds
        demand_one_kind(self.kinds)

    def to_json(self) -> dict[str, Any]:
        """Everything as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Statistics":
        """Rebuild from `to_json`, exactly."""
        figures = [ImageFigures(**one) for one in state["figures"]]
        ranges = {name: (low, high) for name, (low, high) in state["ranges"].items()}
        grey = GreyValues(**state["grey"])
        return cls(**{**state, "grey": grey, "ranges": ranges, "figures": figures})


def _ranges(grey: GreyValues, areas: np.ndarray) -> dict[str, tuple[float, float]]:
    """Of one image, from the areas (n,) of its instances."""
    values = {"grey_mean": grey.mean, "grey_deviation": math.sqrt(grey.squares / grey.count)}
    if (areas > 0).any():
        values["cell_area"] = float(np.median(areas[areas > 0]))
    return {name: (value, value) for name, value in values.items()}


_SUMMED = (
    "images",
    "instances",
    "pixels",
    "shared_pixels",
    "cut_instances",
    "touching_instances",
    "outline_pixels",
    "without_pixels",
)


def demand_one_kind(kinds: dict[str, str]) -> None:
    """Refuse images that one network cannot take together.

    Raises:
        InputError: There are several dtypes or numbers of channels.
    """
    if len(kinds) > 1:
        listed = ", ".join(f"{name} is {kind}" for kind, name in sorted(kinds.items())[:2])
        only_channels = len({kind.split(" x ")[0] for kind in kinds}) == 1
        mend = "give source.channels=1 (grey) or 3" if only_channels else "convert them to one kind"
        raise InputError(
            f"Images must have one dtype and number of channels, but {listed} (dtype x channels); "
            f"{mend} first."
        )
