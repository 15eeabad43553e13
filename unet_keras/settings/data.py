"""Where images come from, what is made of their annotations, and how it is stored."""

import re
from dataclasses import dataclass, field
from typing import Literal

from unet_keras.settings.checks import Pair, demand, demand_pattern, demand_positive


@dataclass(frozen=True)
class Source:
    """Where annotated images come from.

    Attributes:
        kind: `coco` (LIVECell's layout), `folders` (images and masks side by side), `synthetic`.
        images: Folder of the images (coco, folders).
        annotations: Folder of the JSON files (coco) or of the masks (folders).
        download: Whether LIVECell is fetched into these two folders where it is not there (coco).
        url: Where LIVECell is published.
        sha256: What a downloaded file must have, hexadecimal, by its name (`images.zip`,
            `livecell_coco_train.json`, ...); files that are not named are held to what the
            server says of them.
        pixel_size: Side of a pixel in micrometres, so that images of another scale can be predicted
            (`predict --pixel-size`); 0 where it is not known.
        channels: 1 turns colors into grey, as where software has saved grey images as RGB; 3 grey
            into colors; 0 takes images as they are, all of which then need as many.
        license: Under which the images are published, such as `CC BY-NC 4.0`; exported models state
            it in their `metadata.json`.
        group_pattern: Regular expression on the file name; its first group is the cell type.
        on_leak: What happens to an image that is in train and in another split too (coco).
        mask_kind: What the masks' values mean (folders): two-valued, one number an instance, one
            number a class; `rois` are outlines drawn in ImageJ, a zip an image (`NAME_rois.zip`);
            `auto` looks at them. Of a stack a stack, or a mask for each page that has one
            (`NAME-3_mask.png`, from 0).
        class_values: The masks' values, above 0, of class 1, 2, ... where `mask_kind` is `classes`
            (folders); empty for those found, in rising order.
        lists: Folder with train.txt, val.txt and test.txt, an image name a line (folders); empty
            for folders of these names below `images`, or else for `fractions`.
        fractions: Share of the images for train, val and test (folders), by `seed`; each in [0, 1],
            they add up to 1. All pages of a stack go into the same split, unless there is but one.
        split_by_group: Whether all images of a group go into the same split (folders).
        split_in_order: Whether splits are runs of neighbors in the order of the file names instead
            of drawn: sections of a volume and times of a film resemble their neighbors, so drawn
            ones would be scored on what was nearly seen (folders).
        counts: Number of images for train, at least 1, val and test, at least 0 (synthetic).
        size: Height and width of each image in pixels (synthetic).
        cells: `typical`, four types in turn that resemble LIVECell's, or `varied`, a type of its
            own for each image, which prepares networks for real cells of any type (synthetic).
    """

    kind: Literal["coco", "folders", "synthetic"] = "synthetic"
    images: str = ""
    annotations: str = ""
    download: bool = False
    url: str = "https://livecell-dataset.s3.eu-central-1.amazonaws.com/LIVECell_dataset_2021"
    sha256: dict[str, str] = field(default_factory=dict)
    pixel_size: float = 0.0
    channels: Literal[0, 1, 3] = 0
    license: str = ""
    group_pattern: str = r"^([^_]+)_"
    on_leak: Literal["warn", "drop", "error"] = "warn"
    mask_kind: Literal["auto", "binary", "labels", "classes", "rois"] = "auto"
    class_values: tuple[int, ...] = ()
    lists: str = ""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    split_by_group: bool = False
    split_in_order: bool = False
    counts: tuple[int, int, int] = (12, 3, 3)
    size: Pair = (520, 704)
    cells: Literal["typical", "varied"] = "typical"

    def __post_init__(self) -> None:
        if self.kind != "synthetic":
            for name in ("images", "annotations"):
                demand(
                    getattr(self, name) != "",
                    f"source.{name} is empty, but source.kind={self.kind} reads a folder: "
                    f"give source.{name}=FOLDER",
                )
        self._check_download()
        demand(self.pixel_size >= 0, f"source.pixel_size={self.pixel_size} must be at least 0")
        demand_positive(min(self.size), "source.size")
        demand_positive(self.counts[0], "source.counts (its first number, training images)")
        demand(min(self.counts) >= 0, f"source.counts={self.counts} must not have negative numbers")
        demand(
            self.class_values == () or self.mask_kind == "classes",
            f"source.class_values={list(self.class_values)} needs source.mask_kind=classes, not "
            f"{self.mask_kind}",
        )
        demand(
            min(self.class_values, default=1) > 0
            and len(set(self.class_values)) == len(self.class_values) <= 255,
            f"source.class_values={list(self.class_values)} must be up to 255 different numbers "
            "above 0; 0 is the background",
        )
        demand(
            min(self.fractions) >= 0 and abs(sum(self.fractions) - 1) < 1e-6,
            f"source.fractions={self.fractions} must be at least 0 and add up to 1",
        )
        demand(
            not (self.split_by_group and self.split_in_order),
            "source.split_by_group and source.split_in_order are both true: choose one",
        )
        for name in ("split_by_group", "split_in_order"):
            demand(
                not (self.lists and getattr(self, name)),
                f"source.{name} and source.lists both say which split an image is in: choose one",
            )
        demand_pattern(self.group_pattern, "source.group_pattern=")

    def _check_download(self) -> None:
        demand(
            not self.download or self.kind == "coco",
            f"source.download fetches LIVECell, which is source.kind=coco, not {self.kind}",
        )
        demand(
            re.match("https?://.", self.url) is not None,
            f"source.url={self.url!r} must begin with https:// or http://",
        )
        for name, digest in self.sha256.items():
            demand(
                re.fullmatch("[0-9a-fA-F]{64}", digest) is not None,
                f"source.sha256 of {name}, {digest!r}, must be 64 hexadecimal digits",
            )


@dataclass(frozen=True)
class Targets:
    """What the network learns.

    Attributes:
        kind: `cells`, the instances, parted where they touch; `boundary`, 1 on their outermost
            pixels; `cells_and_borders`, three classes: background, inside, outermost pixels.
        outline_pixels: How many pixels wide the borders of `cells_and_borders` are, at least 1.
        sigma_pixels: Width of the border weights, above 0 (Ronneberger et al. 2015, eq. 2).
        separate_touching: Whether pixels that touch another instance become background.
        overlap: Which instance owns a pixel that several cover.
    """

    kind: Literal["cells", "boundary", "cells_and_borders"] = "cells"
    outline_pixels: int = 1
    sigma_pixels: float = 5.0
    separate_touching: bool = True
    overlap: Literal["smallest", "largest", "first", "last"] = "smallest"

    def __post_init__(self) -> None:
        demand_positive(self.sigma_pixels, "targets.sigma_pixels")
        demand_positive(self.outline_pixels, "targets.outline_pixels")
        demand(
            self.outline_pixels == 1 or self.kind == "cells_and_borders",
            f"targets.outline_pixels={self.outline_pixels} is for targets.kind=cells_and_borders, "
            f"not {self.kind}",
        )


@dataclass(frozen=True)
class Records:
    """How records are written.

    Attributes:
        path: Their folder.
        workers: Processes that convert; 0 takes one a core.
        maps: The maps stored beside image and labels, (H, W) in [0, 1]: `border`, `distance`.
        shard_images: Images a shard at most, at least 1; 256 of LIVECell's size make 100 to
            200 MB.
    """

    path: str = "records/synthetic"
    workers: int = 0
    maps: tuple[str, ...] = ("border",)
    shard_images: int = 256

    def __post_init__(self) -> None:
        # Of a shell's variable that is not set.
        demand(self.path != "", "records.path is empty: name a folder, such as records/mine")
        demand(self.workers >= 0, f"records.workers={self.workers} must be at least 0")
        demand_positive(self.shard_images, "records.shard_images")
        known = {"border", "distance"}
        demand(
            set(self.maps) <= known and len(set(self.maps)) == len(self.maps),
            f"records.maps={list(self.maps)} may name each of {sorted(known)} once",
        )
