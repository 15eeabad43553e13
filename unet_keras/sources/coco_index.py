"""Where in a COCO JSON file the annotations of each image stand.

images      by name, each with its spans
spans       starts int64 (n,), lengths int32 (n,)  bytes in the file
categories  ids, listed or used
"""

from array import array
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from unet_keras.errors import InputError
from unet_keras.sources.json_stream import Element, JsonStream

MINIMUM_COORDINATES = 6  # of a polygon: three points

ImageId = int | str


@dataclass
class IndexedImage:
    """One image of a COCO file.

    Attributes:
        name: Its `file_name`.
        size: Height and width, None where the file states none.
        ids: Its ids, several where it is listed repeatedly.
        starts: int64 (n,), the first byte of each annotation in the file.
        lengths: int32 (n,), its length in bytes.
    """

    name: str
    size: tuple[int, int] | None
    ids: list[ImageId]
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))


@dataclass
class CocoIndex:
    """One COCO JSON file.

    Attributes:
        path: The file.
        digest: Its SHA-256, hexadecimal.
        images: Its images by name, in the order of the file.
        categories: Ids of its categories, listed or used.
        crowds: Instances left out because they outline many cells at once.
        without_area: Instances left out because they have no outline of three points.
        orphans: Instances left out because their image is not listed.
        repeated: Instances left out because an equal one is there.
    """

    path: Path
    digest: str = ""
    images: dict[str, IndexedImage] = field(default_factory=dict)
    categories: set[ImageId] = field(default_factory=set)
    crowds: int = 0
    without_area: int = 0
    orphans: int = 0
    repeated: int = 0


def read_index(path: Path) -> CocoIndex:
    """Read a COCO JSON file in a stream, however large it is.

    Raises:
        InputError: The file is absent, not JSON, or not COCO (the message names what is missing).
    """
    return _IndexBuilder(path).build()


class _IndexBuilder:
    """Collects one number a column and annotation while the file goes by."""

    def __init__(self, path: Path) -> None:
        self.index = CocoIndex(path)
        self.number_of_id: dict[ImageId, int] = {}  # annotations may precede the images
        self.numbers = array("q")
        self.starts = array("q")
        self.lengths = array("l")
        self.marks = array("q")  # equal for equal outlines of one category

    def build(self) -> CocoIndex:
        stream = JsonStream(self.index.path, whole=("images", "categories"))
        add = {
            "images": self._add_image,
            "annotations": self._add_annotation,
            "categories": self._add_category,
        }
        for element in stream:
            if element.key in add:
                if not isinstance(element.value, dict):
                    self._refuse(element, "is not an object")
                try:
                    add[element.key](element)
                except TypeError:  # unhashable
                    self._refuse(element, "has an id or a name that is no number and no text")
        for key in ("images", "annotations"):
            if key not in stream.keys:
                raise InputError(
                    f"{self.index.path} is not COCO JSON: it has no {key!r} (only "
                    f"{', '.join(stream.keys) or 'nothing'}); give the file with the annotations."
                )
        self.index.digest = stream.digest
        self._assign()
        return self.index

    def _add_image(self, element: Element) -> None:
        image = element.value
        image_id, name = self._get(element, "id"), str(self._get(element, "file_name"))
        stated = (image.get("height"), image.get("width"))
        if not all(value is None or isinstance(value, int) for value in stated):
            self._refuse(element, f"has the height and width {stated}, which are no whole numbers")
        size = None if None in stated else stated
        hash(image_id)  # raises for what can be no id
        known = self.index.images.setdefault(name, IndexedImage(name, size, []))
        if known.size != size:
            self._refuse(element, f"states another size than {known.ids[0]} of the same file_name")
        if image_id not in known.ids:
            known.ids.append(image_id)

    def _add_category(self, element: Element) -> None:
        self.index.categories.add(self._get(element, "id"))

    def _add_annotation(self, element: Element) -> None:
        annotation = element.value
        image_id, category = self._get(element, "image_id"), self._get(element, "category_id")
        if annotation.get("iscrowd"):
            self.index.crowds += 1
            return
        outline = self._outline(element, annotation.get("segmentation"))
        if outline is None:
            self.index.without_area += 1
            return
        self.index.categories.add(category)
        self.numbers.append(self.number_of_id.setdefault(image_id, len(self.number_of_id)))
        self.starts.append(element.start)
        self.lengths.append(element.length)
        self.marks.append(hash((category, outline)))

    def _outline(self, element: Element, segmentation: Any) -> Hashable | None:
        """Return what is equal for equal outlines, None for one without area."""
        if not segmentation:
            return None
        try:
            if isinstance(segmentation, dict):
                counts = segmentation["counts"]
                return (counts if isinstance(counts, str) else tuple(counts)) or None
            polygons = [polygon for polygon in segmentation if len(polygon) >= MINIMUM_COORDINATES]
            return tuple(map(tuple, polygons)) or None
        except (KeyError, TypeError):
            self._refuse(element, "has a segmentation that is neither polygons nor run lengths")

    def _assign(self) -> None:
        """Give each image its annotations, those of all its ids, equal ones once."""
        numbers = np.array(self.numbers, np.int64)
        order = np.argsort(numbers, kind="stable")
        starts = np.array(self.starts, np.int64)
        lengths, marks = np.array(self.lengths, np.int32), np.array(self.marks, np.int64)
        ends = np.cumsum(np.bincount(numbers, minlength=len(self.number_of_id)))
        self.index.orphans = len(numbers)
        owner: dict[ImageId, str] = {}
        for image in self.index.images.values():
            rows = []
            for image_id in image.ids:
                if owner.setdefault(image_id, image.name) != image.name:
                    raise InputError(
                        f"{self.index.path} gives the id {image_id} to two images, "
                        f"{owner[image_id]} and {image.name}; ids must be unique."
                    )
                if image_id in self.number_of_id:
                    number = self.number_of_id[image_id]
                    rows.append(order[ends[number - 1] if number else 0 : ends[number]])
            mine = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
            first = np.sort(np.unique(marks[mine], return_index=True)[1])
            image.starts, image.lengths = starts[mine[first]], lengths[mine[first]]
            self.index.orphans -= len(mine)
            self.index.repeated += len(mine) - len(first)

    def _get(self, element: Element, key: str) -> Any:
        try:
            return element.value[key]
        except KeyError:
            self._refuse(element, f"has no {key!r}")

    def _refuse(self, element: Element, what: str) -> NoReturn:
        value = element.value
        name = f"id {value['id']}" if isinstance(value, dict) and "id" in value else "one"
        raise InputError(
            f"{self.index.path} is not COCO JSON: in {element.key}, {name} at byte "
            f"{element.start} {what}."
        )
