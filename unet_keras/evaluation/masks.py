"""Masks and label maps that any tool has written, as predictions or as the truth.

    FOLDER/NAME.png, .tif, .tiff        NAME is the image's, without its ending; or with what tools
    FOLDER/NAME_labels.tif, _mask.png   write behind it (`ENDINGS`, the first that is there); of
                                        large images, NAME_labels.ome.tif
    labels       integer (H, W)         0 background, 1..n instances
    probability  float32 (H, W)         NAME_probability.tif, of foreground, where it is asked for;
                 (K, H, W)              a plane a class, the first is the background

A file with one value besides 0 is a mask: its instances are the components that hang together over
edges. A file with several is a label map, a number an instance, unless `kind` says otherwise.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.evaluation.summary import Evaluation
from unet_keras.sources.base import counted, demand_text
from unet_keras.sources.folder_pairs import image_names
from unet_keras.sources.grouping import group_of
from unet_keras.sources.images import page_count, read_image, read_mask
from unet_keras.sources.label_outlines import label_components
from unet_keras.sources.listing import SUFFIXES, list_images
from unet_keras.targets.labels import separate_touching

logger = logging.getLogger(__name__)

KINDS = ("auto", "binary", "labels")
MASK_SUFFIXES = (".png", ".tif", ".tiff")
# what comes behind an image's name: nothing, ours, those of Cellpose, StarDist and others
ENDINGS = ("", "_labels", "_label", "_instances", "_cp_masks", "_masks", "_mask", "_seg", "_pred")
PROBABILITY, _OVERLAY = "_probability", "_overlay"
BESIDE = (PROBABILITY, _OVERLAY, "_outlines", "_flows")  # ours, and Cellpose's
_FEW_VALUES, _MANY_PIECES = 16, 3
_GREY = 128
_OME, _OME_SUFFIXES = ".ome", (".ome.tif", ".ome.tiff")  # of the results of large images


@dataclass(frozen=True)
class MaskFolder:
    """A folder with one mask or label map an image.

    Attributes:
        path: The folder.
        kind: What the files' values mean, one of `KINDS`.
        probabilities: Whether pixel scores are of the probability maps that lie beside the masks,
            instead of the masks: nothing that was corrected or chosen afterwards changes them.

    Raises:
        InputError: The kind is unknown, or there is no such folder.
    """

    path: Path
    kind: str = "auto"
    probabilities: bool = False
    _found: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"The kind {self.kind!r} must be one of {', '.join(KINDS)}.")
        if not self.path.is_dir():
            raise InputError(f"There is no folder {self.path}; give the one that holds the masks.")

    def labels(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read the instances of an image.

        Args:
            name: File name of the image.
            shape: (H, W) that the instances must have.

        Returns:
            Integer (H, W).

        Raises:
            InputError: There is no file for the image, or it is damaged, ambiguous or of another
                size; names the file.
        """
        file = self._find(name, ENDINGS)
        if file is None:
            stem = _stem(name)
            raise InputError(
                f"{self.path} has nothing for the image {name}: neither {stem.name}.png nor .tif "
                f"nor {stem.name}_labels.tif or the like; names must be those of the images"
            )
        labels = read_labels(file, kind=self.kind)
        _demand_shape(labels, shape, file, name)
        return labels

    def probability(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Read the probability map of an image, as `unet_keras.predict` writes it.

        Args:
            name: File name of the image.
            shape: (H, W) that the map must have.

        Returns:
            float32 (H, W); None where they are not asked for.

        Raises:
            InputError: It is absent, damaged or of another size; names the file.
        """
        if not self.probabilities:
            return None
        file = self._find(name, (PROBABILITY,))
        if file is None:
            raise InputError(
                f"{self.path} has no {_stem(name).name}{PROBABILITY}.tif: have it written "
                "(predict --write probability), or leave --probabilities out"
            )
        several = page_count(file) > 1  # classes: foreground is what is not background
        probability = 1 - read_image(file, page=0) if several else read_image(file)
        _demand_shape(probability, shape, file, name)
        return probability.astype(np.float32, copy=False)

    def _find(self, name: str, endings: tuple[str, ...]) -> Path | None:
        """The file of an image, beside its folder structure or in the folder itself."""
        stem = _stem(name)
        # a true mask carries an ending of its own: cell_label.png and cell_pred.png are partners
        others = (*_without_endings(stem.name), *_padded_pages(stem.name))
        stems = [stem, *(stem.with_name(plain) for plain in others)]
        places = [*stems, *(PurePosixPath(place.name) for place in stems)]
        for place in dict.fromkeys(places):
            for ending in endings:
                found = _held(self.path, f"{place}{ending}", (*MASK_SUFFIXES, *_OME_SUFFIXES))
                if len(found) > 1:
                    raise InputError(
                        f"{found[0]} and {found[1]} are both of the image {name}; remove one"
                    )
                if found:
                    self._found.add(found[0])
                    return found[0]
        return None

    def unasked(self) -> list[Path]:
        """The masks of images that nobody has asked for so far."""
        asked = {name for file in self._found for name in _names(file)}
        files = list_images(self.path, recursive=True, suffixes=MASK_SUFFIXES)
        return [file for file in files if asked.isdisjoint(_names(file))]


def _held(folder: Path, place: str, suffixes: Sequence[str]) -> list[Path]:
    """The files of a name without suffix, which may have capital letters."""
    written = (form for each in suffixes for form in (each, each.upper(), each.title()))
    paths = (folder / f"{place}{suffix}" for suffix in written)
    return list({path.stat().st_ino: path for path in paths if path.is_file()}.values())


def read_labels(path: Path, *, kind: str = "auto") -> np.ndarray:
    """Read a mask or a label map.

    Args:
        path: A PNG or TIFF file.
        kind: What its values mean, one of `KINDS`.

    Returns:
        Integer (H, W), 0 background; of a mask, its components are numbered.

    Raises:
        InputError: It is damaged, or `auto` cannot tell what it means; names the file.
    """
    mask = read_mask(path)
    if kind == "labels":
        return mask
    if kind == "binary":
        return label_components(mask > 0)[0]
    components, value_of = label_components(mask)
    values = len(np.unique(value_of))
    if values <= 1:
        return components
    pieces = len(value_of)
    if values > _FEW_VALUES and pieces >= _MANY_PIECES * values:
        raise InputError(
            f"{path} is no mask or label map: its {values} values besides 0 lie in {pieces} "
            "pieces, as in a photograph; give the folder of the masks, or --kind to say what the "
            "values mean"
        )
    if pieces >= _MANY_PIECES * values:
        raise InputError(
            f"{path} has {values} values besides 0 in {pieces} pieces: say whether they "
            "number instances (--kind labels) or all mean foreground (--kind binary)"
        )
    return mask


def folder_truth(
    folder: MaskFolder, *, images: Path | None = None, group_pattern: str
) -> Iterator[dict[str, Any]]:
    """Yield the truth of a folder of masks or label maps.

    Args:
        folder: Of the masks; every file in it is the truth of an image.
        images: Folder of the images, for the pictures; grey ones without it.
        group_pattern: As `source.group_pattern`.

    Yields:
        What records give: `image` uint8, uint16 or float32 (H, W) or (H, W, C), `labels` integer
        (H, W), `outlines` (None), and the strings `file_name` and `group`.

    Raises:
        InputError: A file is damaged, an image is absent or of another size; names the file.
    """
    for file in _masks_in(folder.path):
        name = file.relative_to(folder.path).as_posix()
        labels = read_labels(file, kind=folder.kind)
        yield {
            "image": _image(images, name, labels.shape),
            "labels": labels,
            "outlines": None,
            "file_name": name,
            "group": group_of(file.name, group_pattern),
        }


def score_masks(
    truths: Iterable[dict[str, Any]],
    predictions: MaskFolder,
    evaluation: Evaluation,
    *,
    separate: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Score the masks of a folder.

    Args:
        truths: Of each image, as records or `folder_truth` give it; `labels` integer (H, W).
        predictions: The folder.
        evaluation: What the images are added to.
        separate: Whether probability maps, where there are any, come from a network that learned
            touching instances apart. Masks and label maps are compared with all foreground, but
            with membranes: there touching instances are parted by what separates them.
        progress: Called with 1 after each image.

    Raises:
        InputError: A prediction is absent, damaged or of another size; names the file.
    """
    for truth in truths:
        name, labels = truth["file_name"], truth["labels"]
        predicted = predictions.labels(name, labels.shape)
        probability = predictions.probability(name, labels.shape)
        parted = evaluation.membranes if probability is None else separate
        if probability is None:
            mask = separate_touching(predicted) if parted else predicted
            probability = (mask > 0).astype(np.float32)
        evaluation.add(
            name,
            truth["group"],
            truth["image"],
            labels,
            truth["outlines"],
            probability,
            predicted,
            foreground=separate_touching(labels) > 0 if parted else None,
        )
        if progress is not None:
            progress(1)


def _masks_in(folder: Path) -> list[Path]:
    """One mask an image; what tools write beside, such as `NAME_overlay.png`, is left out."""
    files = list_images(folder, recursive=True)
    files = [file for file in files if file.suffix.lower() in MASK_SUFFIXES]
    masks: dict[Path, Path] = {}
    left = []
    for file in files:
        demand_text(file)
        image = file.with_name(min(image_names(file), key=len))
        if file.stem.removesuffix(_OME).endswith(BESIDE):
            left.append(file)
        elif image in masks:
            raise InputError(
                f"{masks[image]} and {file} are both of the image {image.name}; remove one"
            )
        else:
            masks[image] = file
    if not masks:
        raise InputError(f"The folder {folder} holds no PNG or TIFF file; give masks as such.")
    if left:
        logger.warning(
            "left out: %s beside the masks in %s, such as %s",
            counted(len(left), "file"), folder, left[0].name,
        )  # fmt: skip
    return list(masks.values())


def _image(folder: Path | None, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The image of a mask's name, or a grey one."""
    if folder is None:
        return np.full(shape, _GREY, np.uint8)
    stem = _stem(name)
    for place in (stem.parent / plain for plain in (stem.name, *_without_endings(stem.name))):
        for file in _held(folder, place.as_posix(), SUFFIXES):
            image = read_image(file)
            _demand_shape(image, shape, file, name)
            return image
    raise InputError(f"{folder} has no image for {name}; names must be those of the masks")


def _without_endings(name: str) -> list[str]:
    """What a mask's name may be without what tools write behind it; empty without any of it."""
    return sorted(image_names(Path(f"{name}.png")) - {name})


def _names(file: Path) -> set[str]:
    """What a mask's image may be called; results beside it have the same."""
    stem = file.stem.removesuffix(_OME)
    return {
        stem, *_without_endings(stem), *(stem.removesuffix(end) for end in (PROBABILITY, _OVERLAY))
    }  # fmt: skip


def _padded_pages(name: str) -> list[str]:
    """How `predict` may have named page 8 of a stack, `volume-8`: `volume-08` where it has 30."""
    page = re.fullmatch(r"(.*-)(\d+)", name)
    return [f"{page[1]}{page[2]:0>{digits}}" for digits in range(2, 7)] if page else []


def _stem(name: str) -> PurePosixPath:
    """A name without the ending of an image file; other dots stay."""
    path = PurePosixPath(name)
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def _demand_shape(array: np.ndarray, shape: tuple[int, ...], file: Path, name: str) -> None:
    if array.shape[:2] != shape[:2]:
        found, wanted = (" x ".join(map(str, sides[:2])) for sides in (array.shape, shape))
        raise InputError(
            f"{file} has {found} pixels (height x width), its partner {name} {wanted}; they must "
            "be of one size"
        )
