"""COCO annotations as LIVECell publishes them (Edlund et al. 2021), with the dirt that is in them.

    ANNOTATIONS/livecell_coco_{train,val,test}.json     the split is the JSON file's
    IMAGES/**/NAME.tif                                  flat, or in folders of any depth

The JSON is read once in a stream: a reference keeps where each of its annotations stands in the
file, 12 bytes an instance, and reads them again when it is loaded. So a million instances take a
few megabytes, and polygons reach pycocotools with every digit they were written with.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_keras.errors import InputError
from unet_keras.sources.base import SPLITS, Sample, SampleReference, counted
from unet_keras.sources.coco_index import CocoIndex, read_index
from unet_keras.sources.coco_notes import SourceNotes, some_of
from unet_keras.sources.coco_outlines import read_annotations, trace_outlines
from unet_keras.sources.coco_places import drop_leaks, find_images, find_leaks, locate, unite
from unet_keras.sources.grouping import group_of
from unet_keras.sources.images import read_image

logger = logging.getLogger(__name__)

LEAK_RULES = ("warn", "drop", "error")
GROUP_PATTERN = r"^([^_]+)_"


@dataclass(frozen=True, eq=False)
class CocoReference(SampleReference):
    """One image and where its annotations stand.

    Attributes:
        image_path: The image.
        json_path: The file of its annotations.
        json_digest: SHA-256 of that file.
        size: Height and width in pixels that the JSON states; None where it states none.
        image_ids: The ids the image has in the JSON, several where it is listed repeatedly.
        starts: int64 (n,), the first byte of each annotation.
        lengths: int32 (n,), its length in bytes.
        class_of_category: Class index 1..K by id of the categories that have instances.
    """

    image_path: Path
    json_path: Path
    json_digest: str
    size: tuple[int, int] | None
    image_ids: tuple[int | str, ...]
    starts: np.ndarray
    lengths: np.ndarray
    class_of_category: dict[int | str, int]

    def load(self) -> Sample:
        """Read the image and rasterize its polygons; instances without a pixel are left out.

        Raises:
            InputError: The image is absent, damaged or of another size than the JSON says, or a
                polygon or run-length code is damaged.
        """
        image = read_image(self.image_path)
        size = (image.shape[0], image.shape[1])
        if self.size is not None and size != self.size:
            raise InputError(
                f"{self.image_path} is {size[1]} x {size[0]} pixels (width x height), but "
                f"{self.json_path.name} says {self.size[1]} x {self.size[0]} for image "
                f"{self.image_id}; the annotations may belong to another version of the image."
            )
        annotations = read_annotations(self.json_path, self.starts, self.lengths, self.image_ids)
        outlines, kept = trace_outlines(
            [annotation["segmentation"] for annotation in annotations],
            size,
            names=[f"annotation {a.get('id')} in {self.json_path}" for a in annotations],
        )
        classes = [self.class_of_category[annotations[k]["category_id"]] for k in kept]
        return Sample(
            image_id=self.image_id,
            file_name=self.file_name,
            split=self.split,
            group=self.group,
            image=image,
            outlines=tuple(outlines),
            classes=np.array(classes, np.uint8),
        )

    @property
    def instance_count(self) -> int:
        """How many instances are annotated, with those that will turn out to have no pixel."""
        return len(self.starts)

    @property
    def class_count(self) -> int:
        """K, the categories that have instances; at least 1."""
        return max(1, len(self.class_of_category))

    def fingerprint(self) -> str:
        """State what decides the sample, cheaply: the JSON's digest, the image's size and time."""
        state = self.image_path.stat() if self.image_path.is_file() else None
        stamp = (state.st_size, state.st_mtime_ns) if state else "absent"
        texts = (self.image_id, self.file_name, self.split, self.group, self.json_digest, stamp)
        return f"{texts} {sorted(self.class_of_category.items(), key=str)}"


def coco_references(
    images: Path,
    annotations: Path,
    *,
    group_pattern: str = GROUP_PATTERN,
    on_leak: str = "warn",
) -> list[CocoReference]:
    """List the images of a COCO data set; what is irregular in it goes to the log.

    Args and Raises are those of `read_coco`.
    """
    references, notes = read_coco(images, annotations, group_pattern=group_pattern, on_leak=on_leak)
    for line in notes.lines():
        logger.warning("%s: %s", annotations, line)
    return references


def read_coco(
    images: Path,
    annotations: Path,
    *,
    group_pattern: str = GROUP_PATTERN,
    on_leak: str = "warn",
) -> tuple[list[CocoReference], SourceNotes]:
    """List the images of a COCO data set, and what is irregular in it.

    Args:
        images: Folder that holds the images, at any depth.
        annotations: Folder that holds livecell_coco_{train,val,test}.json, at any depth; a split
            may be missing, but not all of them.
        group_pattern: Regular expression on the file name; its first group is the image's group.
        on_leak: What happens to an image in several splits: `warn` keeps it in each, `drop`
            keeps it in the last one of train, val, test, `error` raises.

    Returns:
        The references, in the order of the splits and of the JSON files; and the notes.

    Raises:
        InputError: A folder, a JSON file or an image is absent, a file is not COCO JSON, or there
            are leaks and `on_leak` is `error`.
    """
    if on_leak not in LEAK_RULES:
        raise InputError(f"source.on_leak={on_leak!r} must be one of {', '.join(LEAK_RULES)}")
    for name, folder in (("images", images), ("annotations", annotations)):
        if not Path(folder).is_dir():
            raise InputError(f"source.{name}={folder} is not a folder; check the path.")
    indices = {split: read_index(path) for split, path in find_json(Path(annotations)).items()}
    places = find_images(Path(images))
    paths = {s: locate(index, s, Path(images), places) for s, index in indices.items()}
    for split, index in indices.items():
        unite(index, paths[split])
    leaks = find_leaks(indices, paths)
    if leaks and on_leak == "error":
        raise InputError(
            f"{counted(len(leaks), 'image')} in several splits: {some_of(tuple(leaks))}. Scores "
            "would be too good; take them out of the JSON files or set source.on_leak=drop."
        )
    if on_leak == "drop":
        drop_leaks(indices, leaks)
    references = list(_references(indices, paths, group_pattern))
    return references, _notes(indices, references, leaks, dropped=on_leak == "drop")


def find_json(folder: Path) -> dict[str, Path]:
    """Find the JSON file of each split, the one nearest to the folder's top.

    Raises:
        InputError: There is none, or there are two at the same depth.
    """
    found: dict[str, Path] = {}
    for split in SPLITS:
        paths = sorted(folder.glob(f"**/livecell_coco_{split}.json"), key=lambda p: len(p.parts))
        if len(paths) > 1 and len(paths[0].parts) == len(paths[1].parts):
            raise InputError(
                f"Two files for split {split}: {paths[0]} and {paths[1]}; point "
                "source.annotations at the folder of one of them."
            )
        if paths:
            found[split] = paths[0]
    if not found:
        names = ", ".join(sorted(path.name for path in folder.glob("*.json"))[:3]) or "none"
        raise InputError(
            f"No livecell_coco_train.json, _val.json or _test.json in {folder} or below it "
            f"(other JSON files there: {names}); check source.annotations or rename the files."
        )
    return found


def _references(
    indices: dict[str, CocoIndex], paths: dict[str, dict[str, Path]], group_pattern: str
) -> Iterator[CocoReference]:
    # Of all splits together, so that a class has one number in all of them.
    categories = _used_categories(indices)
    class_of_category = {c: k for k, c in enumerate(sorted(categories, key=_by_number), start=1)}
    if len(categories) > 255:
        raise InputError(f"{len(categories)} categories are annotated; at most 255 can be kept.")
    seen = Counter(str(i.ids[0]) for index in indices.values() for i in index.images.values())
    for split, index in indices.items():
        for name, image in index.images.items():
            image_id = str(image.ids[0])
            yield CocoReference(
                image_id=f"{split}-{image_id}" if seen[image_id] > 1 else image_id,
                file_name=Path(name).name,
                split=split,
                group=group_of(Path(name).name, group_pattern),
                image_path=paths[split][name],
                json_path=index.path,
                json_digest=index.digest,
                size=image.size,
                image_ids=tuple(image.ids),
                starts=image.starts,
                lengths=image.lengths,
                class_of_category=class_of_category,
            )


def _used_categories(indices: dict[str, CocoIndex]) -> set[int | str]:
    images = [image for index in indices.values() for image in index.images.values()]
    return {category for image in images for category in image.categories}


def _notes(
    indices: dict[str, CocoIndex],
    references: Sequence[CocoReference],
    leaks: dict[str, dict[str, str]],
    *,
    dropped: bool,
) -> SourceNotes:
    per_split = {split: [r for r in references if r.split == split] for split in indices}
    images = [image for index in indices.values() for image in index.images.values()]
    listed = {category for index in indices.values() for category in index.categories}
    return SourceNotes(
        images={split: len(some) for split, some in per_split.items()},
        instances={s: sum(r.instance_count for r in some) for s, some in per_split.items()},
        missing_splits=tuple(split for split in SPLITS if split not in indices),
        merged_images=tuple(image.name for image in images if len(image.ids) > 1),
        leaked_images={name: tuple(names) for name, names in leaks.items()},
        dropped_leaks=len(leaks) if dropped else 0,
        repeated_instances=sum(index.repeated for index in indices.values()),
        without_area=sum(index.without_area for index in indices.values()),
        malformed=tuple(
            f"annotation {number} in {index.path.name}"
            for index in indices.values()
            for number in index.malformed
        ),
        crowds=sum(index.crowds for index in indices.values()),
        orphans=sum(index.orphans for index in indices.values()),
        unused_categories=tuple(
            map(str, sorted(listed - _used_categories(indices), key=_by_number))
        ),
        empty_images=sum(reference.instance_count == 0 for reference in references),
    )


def _by_number(category: int | str) -> tuple[bool, int | str]:
    return (isinstance(category, str), category)
