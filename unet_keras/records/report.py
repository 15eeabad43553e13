"""The data report: a page and a JSON file beside the records, written once those are complete.

RECORDS/report.json    what `overview` says
RECORDS/report.html    the same with pictures; needs nothing beside it and loads nothing

Both follow from the records and their images alone, so they can be made again at any time. The page
comes last: where it is, both are complete.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from unet_keras.drawing import FALSE_POSITIVE, blend, colorize_labels, overlay, shrink, to_rgb
from unet_keras.records.build import TargetSettings, build_record
from unet_keras.records.figures import ImageFigures
from unet_keras.records.manifest import STAMP_NAME, Manifest
from unet_keras.records.overview import overview, page_name
from unet_keras.records.parts import state_of, write_text
from unet_keras.records.placing import REPORT_NAMES, working_folder
from unet_keras.records.strips import instance_strips
from unet_keras.sources.base import SampleReference

PICTURES = 8  # images of usual types; and as many suspicious ones at most
PICTURE_PIXELS = 704
LISTED = 100  # rows of a table in the page; the JSON has them all


def keep_report(
    path: str | Path,
    manifest: Manifest,
    references: Sequence[SampleReference],
    *,
    notes: Mapping[str, Any] | None = None,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the report of records that are complete, unless it is there.

    Args:
        path: Folder of the records, as `write_records` left it.
        manifest: Its manifest.
        references: What the records were made of; a few are drawn.
        notes: What is irregular in the source, for `report.json`; JSON values.
        remarks: The same in sentences.

    Returns:
        What `report.json` holds.

    Raises:
        InputError: The disk is full, or an image that is to be drawn is not there anymore.
    """
    path = Path(path)
    page_name, json_name = REPORT_NAMES
    digest = hashlib.sha256(manifest.to_text().encode()).hexdigest()
    before = state_of(path / json_name)
    if before.get("manifest") == digest and (path / page_name).is_file():
        return before
    figures = [ImageFigures(**one) for one in state_of(path / STAMP_NAME)["images"]]
    counted = overview(manifest, figures, notes=notes, remarks=remarks)
    text = json.dumps({"manifest": digest, **counted}, indent=1, allow_nan=False) + "\n"
    found: dict[str, Any] = json.loads(text)
    page = render_report(path.name, manifest, found, figures, references)
    with working_folder(path) as work:
        write_text(work / json_name, text)
        write_text(work / page_name, page)
        for name in (json_name, page_name):
            (work / name).replace(path / name)
    return found


def render_report(
    name: str,
    manifest: Manifest,
    found: Mapping[str, Any],
    figures: Sequence[ImageFigures],
    references: Sequence[SampleReference],
) -> str:
    """The page as text.

    Args:
        name: What to call the records.
        manifest: Of the records.
        found: From `overview`.
        figures: One an image.
        references: The images.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "score": _score, "percent": _percent}
    settings = TargetSettings(
        manifest.maps, manifest.sigma_pixels, manifest.separate, manifest.overlaps.rule
    )
    by_id = {reference.image_id: reference for reference in references}
    suspects = [one["image_id"] for one in found["suspicious_images"][:PICTURES]]
    shown = {
        "Images of each type": [one.image_id for one in usual_images(figures, PICTURES)],
        "Suspicious images": suspects,
    }
    return environment.get_template("report.html").render(
        name=name,
        manifest=manifest,
        found=found,
        listed=LISTED,
        page_name=page_name,
        strips=instance_strips(figures),
        sections={
            heading: [_shown(by_id[image_id], settings) for image_id in ids if image_id in by_id]
            for heading, ids in shown.items()
        },
    )


def usual_images(figures: Sequence[ImageFigures], count: int) -> list[ImageFigures]:
    """Choose images to show: of each group those in the middle by their number of instances.

    Args:
        figures: One an image.
        count: How many at most; groups with the most images come first where there are more.

    Returns:
        The chosen, in the order of the groups' names.
    """
    groups: dict[str, list[ImageFigures]] = {}
    for one in sorted(figures, key=lambda one: (one.instances, one.file_name)):
        groups.setdefault(one.group, []).append(one)
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:count]
    chosen: dict[str, ImageFigures] = {}
    for name in sorted(largest):
        some = groups[name]
        wanted = min(max(1, count // 2 // len(largest)), len(some))
        for k in range(wanted):
            one = some[len(some) * (2 * k + 1) // (2 * wanted)]
            chosen[one.image_id] = one
    return list(chosen.values())


def draw_targets(reference: SampleReference, settings: TargetSettings) -> dict[str, np.ndarray]:
    """Draw what a record of an image holds over the image.

    Returns:
        uint8 (H', W', 3) by title: the instances as labeled; the foreground that is learned, a
        color a class, with the border weights in orange.
    """
    record, foreground = build_record(reference.load(), settings)
    class_map = np.concatenate([[0], record.classes])[foreground]
    learned = blend(to_rgb(record.image), class_map > 0, colorize_labels(class_map), 0.4)
    if "border" in record.maps:
        weight = record.maps["border"][..., np.newaxis]
        mixed = (1 - weight) * learned + weight * np.array(FALSE_POSITIVE, np.float32)
        learned = np.round(mixed).astype(np.uint8)
    pictures = {
        "Instances": overlay(record.image, record.labels),
        "Foreground and border weights": learned,
    }
    return {title: shrink(picture, PICTURE_PIXELS) for title, picture in pictures.items()}


def _shown(reference: SampleReference, settings: TargetSettings) -> dict[str, Any]:
    pictures = draw_targets(reference, settings)
    return {
        "file_name": reference.file_name,
        "split": reference.split,
        "group": reference.group,
        "pictures": {title: data_uri(picture) for title, picture in pictures.items()},
    }


def data_uri(picture: np.ndarray) -> str:
    """A picture that can stand in a page.

    Args:
        picture: uint8 (H, W, 3).

    Returns:
        `data:image/webp;base64,...`.
    """
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "webp", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _count(value: float | None) -> str:
    """Whole, with thousands apart; a dash for what does not exist."""
    return "\N{EN DASH}" if value is None else f"{value:,.0f}"


def _score(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}%"
