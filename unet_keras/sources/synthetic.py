"""Synthetic phase-contrast cells: data for whoever has none, in memory or in LIVECell's layout.

    image     uint8 (H, W)  mean near 128
    outlines  pycocotools' raster of the polygons that the cells are
    classes   uint8 (n,)    1 for all
    group     the cell type: Round, Spindle, Spread or Clumped, in turn; or Varied

An image follows from (seed, split, index) and its size alone, bit for bit on one machine, wherever
and in whatever order it is drawn.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from unet_keras.errors import InputError
from unet_keras.sources.base import SPLITS, Sample, SampleReference
from unet_keras.sources.cell_rendering import draw_picture
from unet_keras.sources.cell_shapes import Cells, encode, grow_cells, paint
from unet_keras.sources.cell_types import CELL_TYPES, draw_type

MINIMUM_SIDE = 32  # pixels
VARIED = "Varied"
Variety = Literal["typical", "varied"]
LIVECELL_SIZE = (520, 704)
_RECORD = "synthetic.json"  # what a folder was made from
_GENERATOR = 1  # raise it when the same seed gives other pictures
_FOLDERS = {
    "train": "livecell_train_val_images",
    "val": "livecell_train_val_images",
    "test": "livecell_test_images",
}
_HEAD: dict[str, object] = {
    "info": {
        "year": "2025",
        "version": f"{_GENERATOR}.0",
        "description": "Synthetic phase-contrast cells in the layout of LIVECell",
        "contributor": "unet_keras",
        "url": "",
        "date_created": "2025/01/01",
    },
    "licenses": [
        {
            "id": 1,
            "name": "Apache License 2.0",
            "url": "https://www.apache.org/licenses/LICENSE-2.0",
        }
    ],
    "categories": [{"supercategory": "cell", "id": 1, "name": "cell"}],
}


@dataclass(frozen=True)
class SyntheticReference(SampleReference):
    """A synthetic image that is drawn on demand.

    Attributes:
        seed: Of the whole data set.
        index: Which image of the split, from 0.
        size: Height and width in pixels.
    """

    seed: int
    index: int
    size: tuple[int, int]

    def load(self) -> Sample:
        """Draw the image, uint8 (H, W), and its instances, of class 1; the same every time."""
        image, cells = self.draw()
        codes = encode(cells.polygons, self.size)
        return Sample(
            image_id=self.image_id,
            file_name=self.file_name,
            split=self.split,
            group=self.group,
            image=image,
            outlines=tuple(code["counts"] for code in codes),
            classes=np.ones(len(codes), np.uint8),
        )

    def draw(self) -> tuple[np.ndarray, Cells]:
        """Draw the image, uint8 (H, W), and the cells as polygons."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), self.index])
        kind = draw_type(rng) if self.group == VARIED else CELL_TYPES[self.group]
        cells = grow_cells(rng, kind, self.size)
        return draw_picture(rng, kind, cells, paint(cells.polygons, self.size)), cells


def synthetic_references(
    counts: Mapping[str, int],
    *,
    seed: int = 0,
    size: tuple[int, int] = LIVECELL_SIZE,
    cells: Variety = "typical",
) -> list[SyntheticReference]:
    """List synthetic images; nothing is drawn yet.

    Args:
        counts: Number of images for each split of `SPLITS`; absent splits get none.
        seed: At least 0; another seed gives other images.
        size: Height and width in pixels, each at least 32.
        cells: `typical` lets the four types take turns; `varied` draws another for each image.

    Returns:
        References, split by split.

    Raises:
        InputError: A split has another name, a number is negative or the size too small.
    """
    _check(counts, seed, size)
    height, width = size
    types = [VARIED] if cells == "varied" else list(CELL_TYPES)
    return [
        SyntheticReference(
            image_id=f"{split}-{index}",
            file_name=_file_name(types[index % len(types)], split, index),
            split=split,
            group=types[index % len(types)],
            seed=seed,
            index=index,
            size=(height, width),
        )
        for split in SPLITS
        for index in range(counts.get(split, 0))
    ]


def write_livecell_layout(
    directory: str | Path,
    counts: Mapping[str, int],
    *,
    seed: int = 0,
    size: tuple[int, int] = LIVECELL_SIZE,
) -> None:
    """Write synthetic images and their JSON files as the download of LIVECell has them.

    `images/livecell_train_val_images/*.tif`, `images/livecell_test_images/*.tif` and
    `annotations/livecell_coco_{train,val,test}.json`; beside them `synthetic.json` says what they
    were made from. The polygons give pycocotools exactly the masks the cells were drawn with. The
    folder appears when it is complete; one that holds the same data set already is left alone.

    Args:
        directory: Where to; must be absent, empty, or written with the same arguments.
        counts: Number of images for each split of `SPLITS`.
        seed: As in `synthetic_references`.
        size: Height and width in pixels.

    Raises:
        InputError: The folder holds something else, or an argument is wrong.
    """
    directory = Path(directory).resolve()
    references = synthetic_references(counts, seed=seed, size=size)
    record = {
        "generator": _GENERATOR,
        "seed": seed,
        "size": list(size),
        "counts": {split: counts.get(split, 0) for split in SPLITS},
    }
    if _holds(directory, record):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as room:
        draft = Path(room) / directory.name
        _write_images_and_annotations(draft, references)
        (draft / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        if directory.exists():
            directory.rmdir()
        draft.rename(directory)


def _check(counts: Mapping[str, int], seed: int, size: tuple[int, int]) -> None:
    """Refuse arguments that give no data set."""
    for split, count in counts.items():
        if split not in SPLITS:
            raise InputError(
                f"Synthetic images for the split {split!r}; the splits are {', '.join(SPLITS)}."
            )
        if count < 0:
            raise InputError(
                f"{count} synthetic images for the split {split!r}; the number must be 0 or more."
            )
    if seed < 0:
        raise InputError(f"seed={seed} for synthetic images; it must be 0 or more.")
    if len(size) != 2 or min(size) < MINIMUM_SIDE:
        raise InputError(
            f"size={tuple(size)} for synthetic images; "
            f"height and width must be at least {MINIMUM_SIDE} pixels."
        )


def _file_name(group: str, split: str, index: int) -> str:
    """Name an image in LIVECell's pattern, `<type>_Phase_<well>_<n>_<DD>d<HH>h<MM>m_<k>.tif`.

    One number, unique over splits and indices, is taken apart into position, well, repetition
    and time, four hours apart.
    """
    number, position = divmod(index * len(SPLITS) + SPLITS.index(split), 4)
    number, well = divmod(number, 96)
    time, repetition = divmod(number, 2)
    days, hours = divmod(4 * time, 24)
    well_name = f"{'ABCDEFGH'[well // 12]}{well % 12 + 1}"
    return f"{group}_Phase_{well_name}_{repetition + 1}_{days:02}d{hours:02}h00m_{position + 1}.tif"


def _holds(directory: Path, record: Mapping[str, object]) -> bool:
    """Whether the folder was written from this record; False if it is absent or empty.

    Raises:
        InputError: It holds something else.
    """
    if not directory.exists():
        return False
    if directory.is_dir():
        if not any(directory.iterdir()):
            return False
        found = directory / _RECORD
        if found.is_file():
            try:
                if json.loads(found.read_text()) == record:
                    return True
            except ValueError:
                pass  # not ours, or damaged: other content
    raise InputError(
        f"{directory} exists with other content; synthetic images need a folder of their own. "
        "Name another folder or remove this one."
    )


def _write_images_and_annotations(
    directory: Path, references: Sequence[SyntheticReference]
) -> None:
    """Write all TIFF images and the three JSON files below `directory`."""
    annotations = directory / "annotations"
    annotations.mkdir(parents=True)
    for folder in _FOLDERS.values():
        (directory / "images" / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    next_id = 1
    for split in SPLITS:
        images: list[dict] = []
        instances: list[dict] = []
        for reference in references:
            if reference.split != split:
                continue
            # Images and instances share one sequence of ids, with gaps, as in LIVECell.
            next_id += int(rng.integers(500, 5000))
            image, cells = reference.draw()
            # lossless, as the originals: LZW with a predictor
            path = directory / "images" / _FOLDERS[split] / reference.file_name
            Image.fromarray(image).save(path, compression="tiff_lzw", tiffinfo={317: 2})
            images.append(_image_entry(next_id, reference))
            for number, polygon in enumerate(cells.polygons, start=next_id + 1):
                instances.append(_instance_entry(number, next_id, polygon))
            next_id += len(cells.polygons) + 1
        content = {**_HEAD, "images": images, "annotations": instances}
        (annotations / f"livecell_coco_{split}.json").write_text(json.dumps(content))


def _image_entry(image_id: int, reference: SyntheticReference) -> dict[str, object]:
    """Describe an image as LIVECell does."""
    return {
        "id": image_id,
        "width": reference.size[1],
        "height": reference.size[0],
        "file_name": reference.file_name,
        "original_filename": str(Path(reference.file_name).with_suffix(".png")),
        "url": "",
    }


def _instance_entry(instance_id: int, image_id: int, polygon: np.ndarray) -> dict[str, object]:
    """Describe a cell, a polygon (k, 2), as LIVECell does: area and box are the polygon's."""
    x, y = polygon.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    left, top, right, bottom = x.min(), y.min(), x.max(), y.max()
    return {
        "id": instance_id,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": [polygon.ravel().tolist()],
        "area": float(area),
        "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
        "iscrowd": 0,
    }
