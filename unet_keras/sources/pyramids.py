"""Pyramids: images whose smaller copies lie behind them in a TIFF, as further pages."""

import struct
from pathlib import Path

import tifffile


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
