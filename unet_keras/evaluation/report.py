"""What an evaluation leaves behind: `report.html`, `metrics.json`, `table.md`.

    results   what `Evaluation.results` gives: strings, finite numbers, None, lists, dictionaries
    pictures  uint8 (H, W, 3), embedded in the page

The page needs nothing beside it: pictures are data URIs, charts inline SVG, and it loads nothing
from anywhere. Every file is written whole or not at all.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from unet_keras.drawing import FALSE_NEGATIVE, FALSE_POSITIVE, RIGHT
from unet_keras.evaluation.charts import histogram, lines, scatter
from unet_keras.evaluation.classes import CLASS_SCORES
from unet_keras.evaluation.examples import Example, ExampleKeeper
from unet_keras.evaluation.files import demand_writable, write_text
from unet_keras.records.report import data_uri

COLUMNS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "accuracy": "Accuracy",
    "pixel_error": "Pixel error",
    "segmentation_accuracy": "SA",
    "segmentation_accuracy_50": "SA50",
    "panoptic_quality": "PQ",
    "seg": "SEG",
    "boundary_f1": "BF1",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ar_2000": "AR",
    "afnr": "AFNR",
    "count_r2": "Count R²",
    "count_error": "Count error",
}
CARDS = ("dice", "iou", "segmentation_accuracy", "segmentation_accuracy_50", "ap", "ap50")
# of a size that fits a desktop's window without scrolling: two tables
PIXEL_COLUMNS = ("dice", "iou", "precision", "recall", "accuracy", "pixel_error")
IMAGE_COLUMNS = (
    *PIXEL_COLUMNS,
    "segmentation_accuracy",
    "segmentation_accuracy_50",
    "panoptic_quality",
    "boundary_f1",
)
AREAS = {"small": "up to 324 px", "medium": "324 to 961 px", "large": "from 961 px"}
DETECTIONS = {"ar_100": "first 100 an image", "ar_500": "first 500 an image"}
CEILINGS = {
    "ceiling_label_map": "label map (pixels shared by two outlines go to one)",
    "ceiling_foreground": "what the network learns, made into instances",
}
FATES = ("found", "merged", "split", "inexact", "missed")
MEMBRANES = {
    "v_rand": "V_rand, borders thinned",
    "v_info": "V_info, borders thinned",
    "rand_error": "Rand error",
    "warping_error": "Warping error, splits and mergers",
    "warping_error_all": "Warping error, all topology",
    "pixel_error": "Pixel error",
}
_COLORS = {"right": RIGHT, "false": FALSE_POSITIVE, "missed": FALSE_NEGATIVE}


def write_report(
    directory: str | os.PathLike[str],
    results: Mapping[str, Any],
    examples: ExampleKeeper | None = None,
    *,
    title: str = "Evaluation",
    details: Mapping[str, object] | None = None,
) -> Path:
    """Write the page, the numbers and the table of an evaluation.

    Args:
        directory: Made if it is missing; files of an earlier evaluation are replaced.
        results: From `Evaluation.results`.
        examples: From `Evaluation.examples`: the images to show.
        title: Heading of the page.
        details: What was evaluated: run, split, model, date; shown under the heading and kept in
            `metrics.json`.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: The folder or a file in it cannot be written.
    """
    folder, facts = Path(directory), {key: str(value) for key, value in (details or {}).items()}
    page = render_report(results, examples, title=title, details=facts)
    demand_writable(folder)
    write_metrics(folder / "metrics.json", {**results, "details": facts})
    write_text(
        folder / "table.md",
        markdown_table(results) + class_table(results) + membrane_table(results),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def write_metrics(path: str | os.PathLike[str], results: Mapping[str, Any]) -> None:
    """Write `metrics.json`, whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        results: Strings, finite numbers, None, lists, dictionaries.

    Raises:
        ValueError: A number is NaN or infinite, which JSON does not have.
        InputError: The file cannot be written.
    """
    write_text(Path(path), json.dumps(results, indent=1, allow_nan=False) + "\n")


def markdown_table(results: Mapping[str, Any], columns: Sequence[str] = tuple(COLUMNS)) -> str:
    """A table for papers: a row over all, then one for each group where there are several.

    Args:
        results: From `Evaluation.results`.
        columns: Names of scores, in order.

    Returns:
        Markdown; three decimals, a dash for what does not exist.
    """
    heads = ["", "images", "instances", *(COLUMNS.get(name, name) for name in columns)]
    rows = [("all", results["overall"]), *_several(results["groups"]).items()]
    table = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, scores in rows:
        cells = [_score(scores.get(column)) for column in columns]
        table.append([name, str(scores["images"]), str(scores["truth_instances"]), *cells])
    return markdown_rows(table)


def markdown_rows(rows: Sequence[Sequence[str]]) -> str:
    """Rows of a Markdown table; a bar in a cell's text is no end of the cell."""
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def _several(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Groups in the order of their names; none where one is all there is."""
    return dict(sorted(groups.items())) if len(groups) > 1 else {}


def class_table(results: Mapping[str, Any]) -> str:
    """A table for papers: the pixels of each class, where a network tells several apart.

    Args:
        results: From `Evaluation.results`.

    Returns:
        Markdown, three decimals, after an empty line; empty without several classes.
    """
    if results.get("classes") is None:
        return ""
    rows = [["class", *(COLUMNS[name] for name in CLASS_SCORES)]]
    rows.append(["---", *["---:"] * len(CLASS_SCORES)])
    for row in results["classes"]:
        rows.append([row["name"], *(_score(row[name]) for name in CLASS_SCORES)])
    return "\n" + markdown_rows(rows)


def membrane_table(results: Mapping[str, Any]) -> str:
    """A second table for papers: the membrane scores of ISBI 2012.

    Args:
        results: From `Evaluation.results`.

    Returns:
        Markdown, five decimals, after an empty line; empty without such scores.
    """
    scores = results.get("membranes")
    if scores is None:
        return ""
    rows = [["", "at the threshold", "best", "best at"], ["---", "---:", "---:", "---:"]]
    for name, title in MEMBRANES.items():
        values = [scores["at_threshold"][name], scores["best"][name]]
        cells = [f"{value:.5f}" for value in values]
        rows.append([title, *cells, f"{scores['best_threshold'][name]:g}"])
    return "\n" + markdown_rows(rows)


def render_report(
    results: Mapping[str, Any],
    examples: ExampleKeeper | None = None,
    *,
    title: str = "Evaluation",
    details: Mapping[str, str] | None = None,
) -> str:
    """The page as text; arguments as for `write_report`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = _score
    environment.filters["words"] = lambda name: name.replace("_", " ")
    rows = sorted(results["images"], key=lambda row: row["segmentation_accuracy"])
    anchors = {row["file_name"]: f"image-{number}" for number, row in enumerate(rows)}
    by_name = {row["file_name"]: row for row in rows}
    best = examples.best() if examples else []
    worst = examples.worst() if examples else []
    sections = [("Best", "best", best), ("Worst", "worst", worst)]
    return environment.get_template("report.html").render(
        title=title,
        details=details or {},
        results=results,
        groups=_several(results["groups"]),
        rows=rows,
        anchors=anchors,
        columns=COLUMNS,
        cards=CARDS,
        image_columns=IMAGE_COLUMNS,
        class_scores=CLASS_SCORES,
        blocks=(PIXEL_COLUMNS, [name for name in COLUMNS if name not in PIXEL_COLUMNS]),
        detections=DETECTIONS,
        areas=AREAS,
        fates=FATES,
        ceilings=CEILINGS,
        membrane_rows=MEMBRANES,
        charts=_charts(results),
        has_probabilities=_has_probabilities(results),
        sections=[
            (heading, key, [_shown(example, by_name) for example in shown])
            for heading, key, shown in sections
        ],
        linked={example.file_name: f"{key}-{number}" for _, key, shown in sections
                for number, example in enumerate(shown)},
        colors={name: "rgb({}, {}, {})".format(*color) for name, color in _COLORS.items()},
    )  # fmt: skip


def _charts(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Title and SVG of each chart."""
    images = results["images"]
    counts = [
        (row["truth_instances"], row["predicted_instances"], row["file_name"]) for row in images
    ]
    by_iou = [(point["iou"], point["accuracy"]) for point in results["iou_thresholds"]]
    return [
        *_membrane_charts(results),
        ("Dice of the images", histogram([row["dice"] for row in images], label="Dice")),
        (
            "Segmentation accuracy of the images",
            histogram([row["segmentation_accuracy"] for row in images], label="SA"),
        ),
        (
            "Segmentation accuracy by IoU",
            lines({"": by_iou}, labels=("IoU threshold", "TP / (TP + FP + FN)"), dots=True),
        ),
        ("Instances of the images", scatter(counts, labels=("true", "predicted"))),
        *_probability_charts(results),
    ]


def _has_probabilities(results: Mapping[str, Any]) -> bool:
    """Whether there is anything between 0 and 1: masks of other tools have no probabilities."""
    return any(0 < point["probability"] < 1 for point in results["calibration"])


def _probability_charts(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What another threshold would give, and whether probabilities are frequencies."""
    if not _has_probabilities(results):
        return []
    by_threshold = {
        COLUMNS[name]: [(point["threshold"], point[name]) for point in results["thresholds"]]
        for name in ("dice", "precision", "recall")
    }
    calibration = [(point["probability"], point["frequency"]) for point in results["calibration"]]
    return [
        (
            "Threshold",
            lines(by_threshold, labels=("threshold", "score"), mark=results["threshold"]),
        ),
        (
            "Calibration",
            lines({"": calibration}, labels=("predicted probability", "true frequency"),
                  diagonal=True, dots=True),
        ),
    ]  # fmt: skip


def _membrane_charts(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The scores of ISBI 2012 by threshold; no chart without them."""
    if results.get("membranes") is None or not _has_probabilities(results):
        return []
    curve = results["membranes"]["curve"]
    curves = {
        "V_rand": [(point["threshold"], point["v_rand"]) for point in curve],
        "V_info": [(point["threshold"], point["v_info"]) for point in curve],
        "1 - Rand error": [(point["threshold"], 1 - point["rand_error"]) for point in curve],
    }
    labels = ("threshold", "score")
    chart = lines(curves, labels=labels, mark=results["threshold"], dots=True)
    return [("Segments between membranes", chart)]


def _shown(example: Example, rows: Mapping[str, Any]) -> dict[str, Any]:
    """One example as the template wants it."""
    return {
        "file_name": example.file_name,
        "row": rows[example.file_name],
        "pictures": {name: data_uri(array) for name, array in example.pictures.items()},
    }


def _score(value: float | None) -> str:
    """Three decimals; a dash for what does not exist."""
    return "\N{EN DASH}" if value is None else f"{value:.3f}"
