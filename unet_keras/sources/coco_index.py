"""Where in a COCO JSON file the annotations of each image stand.

images      by name, each with its spans
spans       starts int64 (n,), lengths int32 (n,)  bytes in the file
categories  ids, listed; of each image, those of its annotations
"""

import hashlib
import json
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from unet_keras.errors import InputError
from unet_keras.settings.checks import is_text
from unet_keras.sources.json_stream import Element, JsonStream

MINIMUM_COORDINATES = 6  # of a polygon: three points

ImageId = int | str

_DECODED = ("images", "categories")  # their names may be in any script
_CROWD, _NO_CROWD = (1, "1"), (0, "0", "", None)  # texts too, as written by converters
_NUMBER_BYTES = 8


@dataclass
class IndexedImage:
    """One image of a COCO file.

    Attributes:
        name: Its `file_name`.
        size: Height and width in pixels, None where the file states none.
        ids: Its ids, several where it is listed repeatedly.
        starts: int64 (n,), the first byte of each annotation in the file.
        lengths: int32 (n,), its length in bytes.
        marks: int64 (n,), equal for equal outlines of one category.
        categories: Ids of the categories of its annotations.
    """

    name: str
    size: tuple[int, int] | None
    ids: list[ImageId]
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    marks: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    categories: set[ImageId] = field(default_factory=set)

    def take(self, other: "IndexedImage") -> int:
        """Add the ids and annotations of another entry for the same image.

        Returns:
            How many annotations were left out, because an equal one is there.
        """
        self.ids += [image_id for image_id in other.ids if image_id not in self.ids]
        self.categories |= other.categories
        marks = np.concatenate([self.marks, other.marks])
        first = np.sort(np.unique(marks, return_index=True)[1])
        self.marks = marks[first]
        self.starts = np.concatenate([self.starts, other.starts])[first]
        self.lengths = np.concatenate([self.lengths, other.lengths])[first]
        return len(marks) - len(first)


@dataclass
class CocoIndex:
    """One COCO JSON file.

    Attributes:
        path: The file.
        digest: Its SHA-256, hexadecimal.
        images: Its images by name, in the order of the file.
        categories: Ids of the categories it lists, used or not.
        crowds: Instances left out because they outline many cells at once.
        without_area: Instances left out because they have no outline of three points.
        malformed: Ids of the annotations that have a short polygon of an odd number of coordinates,
            which is left out, or the instance if there is no other.
        orphans: Instances left out because their image is not listed.
        repeated: Instances left out because an equal one is there.
    """

    path: Path
    digest: str = ""
    images: dict[str, IndexedImage] = field(default_factory=dict)
    categories: set[ImageId] = field(default_factory=set)
    crowds: int = 0
    without_area: int = 0
    malformed: list[str] = field(default_factory=list)
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
        self.kind_of_category: dict[ImageId, int] = {}
        self.numbers = array("q")
        self.kinds = array("l")
        self.starts = array("q")
        self.lengths = array("l")
        self.marks = array("q")  # digests, equal for equal outlines of one category

    def build(self) -> CocoIndex:
        stream = JsonStream(self.index.path, whole=_DECODED)
        add = {
            "images": self._add_image,
            "annotations": self._add_annotation,
            "categories": self._add_category,
        }
        for element in stream:
            if element.key in add:
                if not isinstance(element.value, dict):
                    self._refuse(element, "is not an object")
                add[element.key](element)
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
        image_id, name = self._id(element, "id"), str(self._get(element, "file_name"))
        if not is_text(f"{image_id}{name}"):
            self._refuse(element, f"has the id {image_id!r} and the file_name {name!r}, no UTF-8")
        stated = (image.get("height"), image.get("width"))
        if not all(value is None or isinstance(value, int) for value in stated):
            self._refuse(element, f"has the height and width {stated}, which are no whole numbers")
        size = None if None in stated else stated
        known = self.index.images.setdefault(name, IndexedImage(name, size, []))
        if known.size != size:
            self._refuse(element, f"states another size than {known.ids[0]} of the same file_name")
        if image_id not in known.ids:
            known.ids.append(image_id)

    def _add_category(self, element: Element) -> None:
        self.index.categories.add(self._id(element, "id"))

    def _add_annotation(self, element: Element) -> None:
        annotation = element.value
        image_id, category = self._id(element, "image_id"), self._id(element, "category_id")
        crowd = annotation.get("iscrowd")
        if crowd not in _CROWD + _NO_CROWD:
            self._refuse(element, f"has the iscrowd {crowd!r}, which is neither 0 nor 1")
        if crowd in _CROWD:
            self.index.crowds += 1
            return
        outline = self._outline(element, annotation.get("segmentation"))
        malformed = _has_half_a_point(annotation.get("segmentation"))
        if malformed:
            self.index.malformed.append(str(annotation.get("id")))
        if outline is None:
            self.index.without_area += not malformed
            return
        self.kinds.append(self.kind_of_category.setdefault(category, len(self.kind_of_category)))
        self.numbers.append(self.number_of_id.setdefault(image_id, len(self.number_of_id)))
        self.starts.append(element.start)
        self.lengths.append(element.length)
        self.marks.append(_mark(repr(category).encode() + outline))

    def _outline(self, element: Element, segmentation: Any) -> bytes | None:
        """Return what is equal for equal outlines, None for one without area."""
        if not segmentation:
            return None
        try:
            if isinstance(segmentation, dict):
                counts = segmentation["counts"]
                return (counts.encode() if isinstance(counts, str) else _numbers(counts)) or None
            polygons = [_numbers(polygon) for polygon in segmentation]
        except (KeyError, TypeError, OverflowError):
            self._refuse(element, _what_is_wrong(segmentation))
        long_enough = [p for p in polygons if len(p) >= MINIMUM_COORDINATES * _NUMBER_BYTES]
        return b"".join(b"%d:%b" % (len(polygon), polygon) for polygon in long_enough) or None

    def _assign(self) -> None:
        """Give each image its annotations, those of all its ids, equal ones once."""
        numbers = np.array(self.numbers, np.int64)
        order = np.argsort(numbers, kind="stable")
        categories, kinds = list(self.kind_of_category), np.array(self.kinds, np.int32)
        starts = np.array(self.starts, np.int64)
        lengths, marks = np.array(self.lengths, np.int32), np.array(self.marks, np.int64)
        ends = np.cumsum(np.bincount(numbers, minlength=len(self.number_of_id)))
        self.index.orphans = len(numbers)
        owner: dict[str, str] = {}  # by the id as text: records name their images so
        for image in self.index.images.values():
            rows = []
            for image_id in image.ids:
                first_name = owner.setdefault(str(image_id), image.name)
                if first_name != image.name:
                    raise InputError(
                        f"{self.index.path} gives the id {image_id} to two images, "
                        f"{first_name} and {image.name}; ids must be unique, as texts too."
                    )
                if image_id in self.number_of_id:
                    number = self.number_of_id[image_id]
                    rows.append(order[ends[number - 1] if number else 0 : ends[number]])
            mine = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
            used = {categories[kind] for kind in np.unique(kinds[mine])}
            all_of_it = IndexedImage(
                image.name, image.size, [], starts[mine], lengths[mine], marks[mine], used
            )
            self.index.orphans -= len(mine)
            self.index.repeated += image.take(all_of_it)

    def _get(self, element: Element, key: str) -> Any:
        try:
            return element.value[key]
        except KeyError:
            self._refuse(element, f"has no {key!r}")

    def _id(self, element: Element, key: str) -> ImageId:
        value = self._get(element, key)
        if isinstance(value, str) and not value.isascii() and element.key not in _DECODED:
            value = self._decoded(element)[key]
        # pandas writes a column of ids with a gap in it as 7.0
        if type(value) in (int, str) or (isinstance(value, float) and value.is_integer()):
            return value
        self._refuse(element, f"has the {key} {value!r}, which is no whole number and no text")

    def _decoded(self, element: Element) -> Any:
        """Read an annotation again with its texts in UTF-8; too slow for all of them."""
        with self.index.path.open("rb") as file:
            file.seek(element.start)
            data = file.read(element.length)
        try:
            return json.loads(data.decode())
        except UnicodeDecodeError:
            self._refuse(element, "is no text in UTF-8; save it so")

    def _refuse(self, element: Element, what: str) -> NoReturn:
        value = element.value
        name = f"id {value['id']}" if isinstance(value, dict) and "id" in value else "one"
        raise InputError(
            f"{self.index.path} is not COCO JSON: in {element.key}, {name} at byte "
            f"{element.start} {what}."
        )


def _numbers(values: Any) -> bytes:
    """Write numbers as float64; TypeError where something else is among them."""
    return array("d", values).tobytes()


def _has_half_a_point(segmentation: Any) -> bool:
    """Tell of polygons too short to be kept; longer ones are refused when they are loaded."""
    if not isinstance(segmentation, list):
        return False
    return any(len(p) < MINIMUM_COORDINATES and len(p) % 2 for p in segmentation)


def _mark(data: bytes) -> int:
    # Not Python's hash: to that, -1 and -2 are the same.
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def _what_is_wrong(segmentation: Any) -> str:
    """Say why a segmentation is none."""
    if isinstance(segmentation, list) and all(isinstance(one, list) for one in segmentation):
        if any(isinstance(value, list) for one in segmentation for value in one):
            return (
                "has a polygon of points [x, y]; write its numbers one after the other, "
                "[x0, y0, x1, y1, ...]"
            )
        return "has a polygon with a coordinate that is no number"
    return "has a segmentation that is neither polygons nor run lengths of numbers"
