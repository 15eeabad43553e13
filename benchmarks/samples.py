"""The two samples that trainings are compared on, and which of their images are scored.

    LIVECell    --livecell DIR   images/, annotations/livecell_coco_{train,val,test}.json
    ISBI 2012   --isbi DIR       image/N.png, label/N.png (0 membrane, 255 cell)

Neither is part of the project. What is scored is never of a well that is trained on, and in ISBI's
stack of sections, where neighbors resemble each other, a block at its end.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from trials import WELL

from unet_keras.errors import InputError
from unet_keras.sources.grouping import group_of
from unet_keras.sources.listing import list_images

# Of the cell types that have images of several wells one each, and of one of them two.
LIVECELL_SCORED = (
    "BT474_Phase_B3_2_02d12h00m_3.tif", "BT474_Phase_D3_1_02d16h00m_1.tif",
    "Huh7_Phase_A12_1_02d12h00m_3.tif", "MCF7_Phase_H4_1_03d08h00m_4.tif",
    "SKOV3_Phase_E4_1_00d00h00m_1.tif",
)  # fmt: skip
ISBI_SCORED = 4


def livecell_sample(text: str) -> Path:
    """LIVECell's folder, from a command line."""
    return _sample(text, "images", "annotations")


def isbi_sample(text: str) -> Path:
    """ISBI's folder, from a command line."""
    return _sample(text, "image", "label")


def _sample(text: str, *folders: str) -> Path:
    path = Path(text).resolve()
    for folder in folders:
        if not (path / folder).is_dir():
            raise argparse.ArgumentTypeError(
                f"{text} has no folder {folder}/; a folder with {' and '.join(folders)} is expected"
            )
    return path


def images_of(sample: Path) -> dict[str, list[str]]:
    """Names of LIVECell's annotated images by split.

    Raises:
        InputError: The sample is another one, without the images that are scored.
    """
    found = {}
    for split in ("train", "val", "test"):
        file = sample / "annotations" / f"livecell_coco_{split}.json"
        found[split] = [image["file_name"] for image in json.loads(file.read_text())["images"]]
    missing = set(LIVECELL_SCORED) - {name for names in found.values() for name in names}
    if missing:
        raise InputError(
            f"{sample} is another sample: {', '.join(sorted(missing))} is not annotated there"
        )
    return found


def livecell_names(sample: Path) -> list[str]:
    """Names of the annotated images that are not scored, sorted; of other wells than those."""
    names = {name for split in images_of(sample).values() for name in split}
    scored = {group_of(name, WELL) for name in LIVECELL_SCORED}
    trained = sorted(names - set(LIVECELL_SCORED))
    shared = [name for name in trained if group_of(name, WELL) in scored]
    if shared:
        raise InputError(f"{sample} is another sample: {shared[0]} is of a well that is scored")
    return trained


def some_of(names: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """So many of the names; the seed decides which, and more of them hold all of fewer."""
    order = np.random.default_rng(seed).permutation(len(names))
    return tuple(names[number] for number in order[:count])


def isbi_names(sample: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of the sections that are trained on and of those that are scored, the last ones."""
    names = [path.name for path in list_images(sample / "image")]
    return names[:-ISBI_SCORED], tuple(names[-ISBI_SCORED:])


def where_livecell(sample: Path) -> list[str]:
    """Overrides that say where the images are."""
    return [f"source.images={sample}/images", f"source.annotations={sample}/annotations"]


def where_isbi(sample: Path) -> list[str]:
    """Likewise."""
    return [f"source.images={sample}/image", f"source.annotations={sample}/label"]


def write_pairs(records: Path, split: str, folder: Path) -> None:
    """Write a split's images and label maps as `images/NAME.tif` and `labels/NAME.tif`."""
    import tifffile

    from unet_keras.evaluation.scoring import read_records
    from unet_keras.records.manifest import read_manifest

    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for record in read_records(records, read_manifest(records), split):
        name = Path(record["file_name"]).with_suffix(".tif").name
        arrays = {"images": record["image"][..., 0], "labels": record["labels"]}
        for kind, array in arrays.items():
            tifffile.imwrite(folder / kind / name, array)
