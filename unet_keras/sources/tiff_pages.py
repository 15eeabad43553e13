"""Which pages of a TIFF are images of their own, and what is an image but no page.

In pyramids, an image's smaller copies lie behind it as further pages. Above 4 GB, where a TIFF
ends, Fiji lists the first page alone and writes all others behind it.
"""

import re
import struct
from pathlib import Path

import tifffile

from unet_keras.errors import InputError


def full_pages(file: tifffile.TiffFile) -> int:
    """How many pages come before the smaller copies; all where there are none."""
    pages = len(file.pages)
    if pages < 2 or not file.pages[pages - 1].aspage().is_reduced:
        return pages
    return next((k for k in range(1, pages) if file.pages[k].aspage().is_reduced), pages)


def full_pages_of(path: Path) -> float:
    """The same of a file; infinity where it is no TIFF or damaged, which others tell."""
    try:
        with tifffile.TiffFile(path) as file:
            return full_pages(file) or float("inf")
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error):
        return float("inf")


def demand_listed(path: Path, *, description: str, pages: int, page_bytes: int) -> None:
    """Refuse a stack of which ImageJ has put more into the file than the file lists.

    Args:
        path: The file.
        description: Its first page's.
        pages: How many it lists.
        page_bytes: Of the pixels of one, in bytes.

    Raises:
        InputError: Says so.
    """
    stated = re.match(r"ImageJ=(?s:.*?)\nimages=(\d+)", description)
    images = int(stated[1]) if stated else 0
    if images > pages and path.stat().st_size >= images * page_bytes:
        raise InputError(
            f"{path} holds {images} images but lists {pages} of them as its pages, as Fiji "
            "writes stacks above 4 GB: save it as an image sequence, or in parts"
        )
