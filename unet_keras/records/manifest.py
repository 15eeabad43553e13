"""The manifest: what is in a folder of records, and whether it is still as it was written.

RECORDS/manifest.json                        this
RECORDS/<split>-00000-of-00016.tfrecord      the shards it names, with their SHA-256
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_origin

from unet_keras.errors import InputError
from unet_keras.records.schema import SCHEMA_VERSION
from unet_keras.records.shard_files import Shard, has_its_size, problems_of

MANIFEST_NAME = "manifest.json"
STAMP_NAME = ".conversion.json"  # what the records were made of, and each image in figures
WORK_FOLDER = ".conversion"  # below the records: what an unfinished conversion keeps

_NUMBER = (int, float)  # JSON writes 1.0 and 1
_LISTS: dict[str, Any] = {
    "class_frequencies": _NUMBER, "smallest_size": int, "largest_size": int, "maps": str
}  # fmt: skip
Built = TypeVar("Built")


@dataclass(frozen=True)
class Group:
    """The images of one group, the cell type in LIVECell.

    Attributes:
        images: Number of images.
        instances: Number of instances.
        labeled_pixels: Pixels that an instance owns.
    """

    images: int
    instances: int
    labeled_pixels: int


@dataclass(frozen=True)
class Split:
    """The records of one split; all zero where it has none.

    Attributes:
        images: Number of images.
        instances: Number of instances.
        pixels: Pixels of all images together.
        shards: Its files.
        groups: Its groups by name.
        source_digest: SHA-256 of what was read for it, images and instances, hexadecimal.
    """

    images: int
    instances: int
    pixels: int
    shards: tuple[Shard, ...]
    groups: dict[str, Group]
    source_digest: str


@dataclass(frozen=True)
class OverlapCounts:
    """What became of pixels that several instances cover, and of instances that touch.

    Attributes:
        rule: Which instance owns such a pixel.
        shared_pixels: Claims on pixels that another instance got.
        cut_instances: Instances that lost a pixel to another.
        vanished_instances: Instances that lost all of theirs.
        vanished: The numbers of those, by image id.
        touching_instances: Instances that lose a pixel when touching ones are separated.
        without_pixels: Annotated instances that cover no pixel, left out.
    """

    rule: str
    shared_pixels: int
    cut_instances: int
    vanished_instances: int
    vanished: dict[str, tuple[int, ...]]
    touching_instances: int
    without_pixels: int


@dataclass(frozen=True)
class Manifest:
    """What is in a folder of records.

    Attributes:
        schema_version: Of the records.
        splits: By name, always train, val and test.
        num_classes: K, the classes an instance may have.
        class_frequencies: Share of the training pixels of background, class 1, ... K, after
            separation; they add up to 1.
        mean: Mean of the training images' grey values (of all, without training images).
        scale: Their standard deviation; 1 where all are equal.
        channels: C of each image.
        image_dtype: uint8, uint16 or float32.
        smallest_size: Smallest height and smallest width of an image.
        largest_size: Largest height and largest width of an image.
        most_instances: Of one image.
        maps: Names of the maps in each record.
        sigma_pixels: Width of the border weights.
        separate: Whether touching instances are separated in the foreground.
        overlaps: The rule for shared pixels, and its effect.
        versions: Of the libraries that decide the records' bytes.
        configuration: What the records were asked for with, as the caller described it.
        ranges: Lowest and highest, over the training images, of `grey_mean`, `grey_deviation` and
            `cell_area`, the median area of an image's instances in pixels; what lies outside was
            not learned from. Empty in manifests that are older than this.
        outline_share: Share of the training pixels that are the outermost of an instance; 0 in
            manifests that are older than this.
    """

    schema_version: int
    splits: dict[str, Split]
    num_classes: int
    class_frequencies: tuple[float, ...]
    mean: float
    scale: float
    channels: int
    image_dtype: str
    smallest_size: tuple[int, int]
    largest_size: tuple[int, int]
    most_instances: int
    maps: tuple[str, ...]
    sigma_pixels: float
    separate: bool
    overlaps: OverlapCounts
    versions: dict[str, str]
    configuration: dict[str, Any]
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    outline_share: float = 0.0

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in micrometres; 0 where it is not known."""
        return float(self.configuration.get("pixel_size", 0.0))

    @property
    def shards(self) -> list[Shard]:
        """The shards of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]

    def to_text(self) -> str:
        """Write as JSON; equal manifests give equal text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read_manifest(path: str | Path) -> Manifest:
    """Read the manifest of a folder of records.

    Args:
        path: The folder.

    Raises:
        InputError: There are no records, a manifest of another schema version, or a damaged one.
    """
    path = Path(path)
    file = path / MANIFEST_NAME
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        version = state["schema_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(_absence(path)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be read as a manifest ({error}); {_again(path)}"
        ) from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file} is of schema version {version}, this program reads version {SCHEMA_VERSION}; "
            "make the records again into another folder, or install the version that wrote them."
        )
    try:
        return _manifest(state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} is damaged ({type(error).__name__}: {error}); {_again(path)}"
        ) from error


def verify(path: str | Path) -> list[str]:
    """Check every shard's digest and number of records, and every record's checksums and schema.

    The manifest itself is compared with the digest that the conversion left beside it, where that
    is there.

    Returns:
        A line for each problem that names the file, and the record where it is in one; empty
        when all is as it was written.

    Raises:
        InputError: The manifest itself is absent or damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    problems = _problems(path, manifest.shards, manifest)
    named = {shard.file for shard in manifest.shards}
    strays = sorted(file.name for file in path.glob("*.tfrecord") if file.name not in named)
    problems += [f"{path / name} is not named in {MANIFEST_NAME}" for name in strays]
    if _is_edited(path):
        problems.append(f"{path / MANIFEST_NAME} is not as it was written: its SHA-256 differs")
    return problems


def demand_intact(path: str | Path, *, thorough: bool = False) -> None:
    """Refuse records that are not as they were written.

    Args:
        path: The folder of the records.
        thorough: Whether all is read, as `verify` does; else only presence and size are checked,
            which takes no time, and only files of another size are read.

    Raises:
        InputError: A shard is missing, cut off or damaged; the message is `verify`'s.
    """
    path = Path(path)
    if thorough:
        problems = verify(path)
    else:
        manifest = read_manifest(path)
        changed = [shard for shard in manifest.shards if not has_its_size(path, shard)]
        problems = _problems(path, changed, manifest)
    if problems:
        more = f" ({len(problems) - 1} more: --verify lists them)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}; {_again(path)}")


def _is_edited(path: Path) -> bool:
    try:
        written = json.loads((path / STAMP_NAME).read_text(encoding="utf-8"))["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # it does not belong to the records, and may be gone
    text = (path / MANIFEST_NAME).read_text(encoding="utf-8")
    return bool(written != hashlib.sha256(text.encode()).hexdigest())


def _problems(path: Path, shards: Sequence[Shard], manifest: Manifest) -> list[str]:
    return [problem for shard in shards for problem in problems_of(path, shard, manifest.maps)]


def _absence(path: Path) -> str:
    command = f"python -m unet_keras.make_records CONFIG records.path={path}"
    if (path / WORK_FOLDER).is_dir():
        return f"The conversion into {path} was interrupted; run it again, it continues: {command}"
    return f"There are no records in {path} (no {MANIFEST_NAME}); make them first: {command}"


def _again(path: Path) -> str:
    """Without their config, make_records would write synthetic images in their place."""
    return (
        "make the records again with the config and overrides that made them: "
        f"python -m unet_keras.make_records CONFIG records.path={path}"
    )


def _manifest(state: dict[str, Any]) -> Manifest:
    """Rebuild from what `to_text` wrote."""
    unknown = set(state) - {known.name for known in fields(Manifest)}
    if unknown:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}")
    overlaps = state["overlaps"]
    ranges = {name: (low, high) for name, (low, high) in state.get("ranges", {}).items()}
    vanished = {name: _listed(numbers, int) for name, numbers in overlaps["vanished"].items()}
    return _typed(
        Manifest,
        {
            **state,
            **{name: _listed(state[name], kind) for name, kind in _LISTS.items()},
            "splits": {name: _split(split) for name, split in state["splits"].items()},
            "ranges": ranges,
            "overlaps": _typed(OverlapCounts, {**overlaps, "vanished": vanished}),
        },
    )


def _split(state: dict[str, Any]) -> Split:
    shards = tuple(_typed(Shard, shard) for shard in state["shards"])
    groups = {name: _typed(Group, group) for name, group in state["groups"].items()}
    return _typed(Split, {**state, "shards": shards, "groups": groups})


def _listed(values: Any, kind: Any) -> tuple[Any, ...]:
    """A list of JSON as a tuple; TypeError where it is something else, such as a text."""
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise TypeError(f"{values!r} stands where a list of other values belongs")
    return tuple(values)


def _typed(kind: type[Built], values: dict[str, Any]) -> Built:
    """Build a dataclass; TypeError where a value is not of its field's type."""
    for known in fields(kind):  # type: ignore[arg-type]
        wanted: Any = get_origin(known.type) or known.type
        value = values.get(known.name)
        if known.name in values and not isinstance(value, _NUMBER if wanted is float else wanted):
            raise TypeError(f"{known.name} is {value!r}, not of type {wanted.__name__}")
    return kind(**values)
