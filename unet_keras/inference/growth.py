"""Growth curves: count and confluency of each well over time, from the names of images.

LIVECell's names carry both: `A172_Phase_C7_1_02d00h00m_4.tif` is field 1 of well C7 after two days,
its fourth part. Each image that has such a name counts; all images of a well at one time are taken
together.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unet_keras.inference.writing import TableWriter
from unet_keras.sources.base import counted
from unet_keras.whole_files import whole_file

logger = logging.getLogger(__name__)

NAME = re.compile(
    r"(?:^|_)(?P<well>[A-P]\d{1,2})_(?:\d+_)?(?P<days>\d+)d(?P<hours>\d+)h(?P<minutes>\d+)m(?:_|\.|$)",
    re.IGNORECASE,
)
COLUMNS = ("group", "well", "hours", "images", "cells", "cells_per_image", "confluency")
_PAGE = re.compile(r" page \d+$")  # as `Picture.title` says it
_WELLS_IN_LEGEND = 16
# Ten colors, and the same again with dashes: each well of a legend looks its own way.
_COLORS, _STYLES = 2 * list(matplotlib.color_sequences["tab10"]), 10 * ["-"] + 10 * ["--"]


@dataclass(frozen=True)
class WellTime:
    """What a file name says.

    Attributes:
        well: Such as C7, also of c7 and C07.
        hours: Since the start, at least 0.
    """

    well: str
    hours: float


def well_and_time(file_name: str) -> WellTime | None:
    """Read well and time, in hours, from a file name; None where it has none."""
    match = NAME.search(file_name)
    if match is None:
        return None
    days, hours, minutes = (int(match[part]) for part in ("days", "hours", "minutes"))
    well = match["well"].upper()
    return WellTime(f"{well[0]}{int(well[1:])}", 24 * days + hours + minutes / 60)


def growth_rows(counts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put images of a well and a time together.

    Pages of stacks are left out: their names say when the first was taken, not when each was.

    Args:
        counts: Rows with `image`, `group`, `cells`, `confluency`, `pixels`; other names count not.

    Returns:
        Rows of `COLUMNS`, by group, well and time in hours; confluency over all pixels of their
        images, in [0, 1].
    """
    together: dict[tuple[str, str, float], list[float]] = {}
    for row in counts:
        place = well_and_time(row["image"])
        if place is not None and not _PAGE.search(row["image"]):
            sums = together.setdefault((row["group"], place.well, place.hours), [0, 0, 0, 0])
            shares = (1, row["cells"], row["confluency"] * row["pixels"], row["pixels"])
            sums[:] = [total + share for total, share in zip(sums, shares, strict=True)]
    ordered = sorted(together, key=lambda key: (key[0], _order(key[1]), key[2]))
    return [
        {
            "group": group,
            "well": well,
            "hours": round(hours, 4),
            "images": images,
            "cells": cells,
            "cells_per_image": round(cells / images, 2),
            "confluency": round(covered / pixels, 6),
        }
        for (group, well, hours), (images, cells, covered, pixels) in (
            (key, together[key]) for key in ordered
        )
    ]


def _order(well: str) -> tuple[str, int]:
    """C7 before C10."""
    return well[0], int(well[1:])


def write_growth(folder: Path, counts: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write `growth.csv` and `growth.png` where names carry well and time.

    Args:
        folder: Where to.
        counts: As `growth_rows` takes them.

    Returns:
        The files written; none where no name carries both.
    """
    pages = [row["image"] for row in counts if _PAGE.search(row["image"])]
    pages = [name for name in pages if well_and_time(name) is not None]
    if pages:
        logger.warning(
            "left out of growth over time: %s of stacks, such as %s, of unknown time",
            counted(len(pages), "page"), pages[0],
        )  # fmt: skip
    rows = growth_rows(counts)
    if not rows:
        return []
    with TableWriter(folder / "growth.csv", COLUMNS) as table:
        table.add(rows)
    with whole_file(folder / "growth.png") as partial:
        partial.write_bytes(_plot(rows))
    return [folder / "growth.csv", folder / "growth.png"]


def _plot(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG with a line a well: cells an image, and confluency, over time."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        curves.setdefault(f"{row['group']} {row['well']}", []).append(row)
    both = figure.subplots(1, 2)
    for axes, column, title, unit in zip(
        both,
        ("cells_per_image", "confluency"),
        ("cells an image", "confluency (%)"),
        (1, 100),
        strict=True,
    ):
        axes.set_prop_cycle(linestyle=_STYLES, color=_COLORS)
        for name, curve in curves.items():
            hours, values = [r["hours"] for r in curve], [unit * r[column] for r in curve]
            axes.plot(hours, values, marker="o", markersize=3, label=name)
        axes.set_xlabel("hours")
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    if len(curves) <= _WELLS_IN_LEGEND:
        handles = both[0].get_lines()  # those of the other axes are the same
        figure.legend(
            handles=handles, loc="outside right upper", fontsize="small", frameon=False,
            handlelength=3,
        )  # fmt: skip
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()
