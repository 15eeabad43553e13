"""Two evaluations of the same images side by side: which one is better, and how sure is that.

    RUN/evaluation/metrics.json                 what is compared, as `write_report` leaves it
    RUN_B/evaluation/compared_with_RUN_A.json   the differences, for machines
    RUN_B/evaluation/compared_with_RUN_A.md     the same as a table

Both runs are resampled with the same images, which pairs them.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unet_keras.errors import InputError
from unet_keras.evaluation.files import write_text
from unet_keras.evaluation.intervals import compare
from unet_keras.evaluation.report import COLUMNS, MEMBRANES, markdown_rows, write_metrics
from unet_keras.sources.base import counted

logger = logging.getLogger(__name__)

FEWEST_IMAGES = 6
"""From here on differences that all point the same way are rarer by chance than 5%: 2 / 2**6."""

_TITLES = {
    **COLUMNS,
    **MEMBRANES,
    "dice_of_instances": "Dice of the instances",
    "instance_f1_50": "F1 of instances at IoU 0.5",
    "instance_precision_50": "Precision of instances at IoU 0.5",
    "instance_recall_50": "Recall of instances at IoU 0.5",
    "segmentation_accuracy_label_map": "SA against the label map",
}


def read_metrics(run: Path) -> dict[str, Any]:
    """Read the evaluation of a run.

    Args:
        run: A run folder, an evaluation's folder, or `metrics.json` itself.

    Returns:
        What `Evaluation.results` gave.

    Raises:
        InputError: It was not evaluated yet, or the file is damaged.
    """
    file = _metrics_file(run)
    if file is None:
        raise InputError(
            f"{run} has no evaluation/metrics.json; evaluate it first: "
            f"python -m unet_keras.evaluate {run}"
        )
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(metrics["images"], list):
            raise TypeError(f"images is {type(metrics['images']).__name__}, no list")
        if not all(isinstance(row["file_name"], str) for row in metrics["images"]):
            raise TypeError("a file_name is no text")
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}, {error}"
        raise InputError(
            f"{file} cannot be read as an evaluation ({what}); evaluate again"
        ) from None
    return metrics


def not_as_tuned(run: Path, metrics: Mapping[str, Any]) -> str | None:
    """Tell where a run was scored otherwise than it was tuned, as before its tuning.

    Args:
        run: As `read_metrics` takes it.
        metrics: Of it, from there.

    Returns:
        A sentence that says what to do; None where there is no `tuned.yaml` or it was scored so.
    """
    file = _metrics_file(run)
    folder = file.parent.parent if file is not None else run
    tuned = folder / "tuned.yaml"
    if file is None or not tuned.is_file():
        return None
    again = f"score it again: python -m unet_keras.evaluate {folder}"
    try:
        values = dict(yaml.safe_load(tuned.read_text(encoding="utf-8"))["evaluate"])
    except (yaml.YAMLError, TypeError, KeyError, ValueError):
        return f"{tuned} is damaged, so that nobody knows whether {file} is as tuned"
    if "scored" not in metrics:  # of an earlier version
        older = file.stat().st_mtime < tuned.stat().st_mtime
        return f"{file} is older than {tuned}; {again}" if older else None
    scored = metrics["scored"]
    other = [
        f"{name}={scored[name]} instead of {value}"
        for name, value in values.items()
        if name in scored and scored[name] != value
    ]
    return f"{file} was not scored as {tuned} says ({', '.join(other)}); {again}" if other else None


def _metrics_file(run: Path) -> Path | None:
    """The `metrics.json` of a run folder, of an evaluation's folder, or what is one itself."""
    places = [run, run / "metrics.json", run / "evaluation" / "metrics.json"]
    return next((place for place in places if place.is_file()), None)


def compare_runs(first: Path, second: Path) -> tuple[str, Path]:
    """Compare two evaluated runs image by image, and write the result beside the second.

    Args:
        first: Run folder, or as `read_metrics` takes it.
        second: Likewise; what is better than the first has positive differences.

    Returns:
        The table as Markdown, and the path of its file.

    Raises:
        InputError: A run was not evaluated, both on different images, or nothing can be written.
    """
    metrics = [read_metrics(run) for run in (first, second)]
    for run, found in zip((first, second), metrics, strict=True):
        if told := not_as_tuned(run, found):
            logger.warning(told)
    scores = compare(*metrics)
    folder = second if second.is_dir() else second.parent
    if (folder / "evaluation").is_dir():
        folder = folder / "evaluation"
    path = folder / f"compared_with_{_name(first)}.json"
    facts = {
        key: run.get("details", {}) for key, run in zip(("first", "second"), metrics, strict=True)
    }
    write_metrics(path, {"images": len(metrics[0]["images"]), **facts, "scores": scores})
    names = (_name(first), _name(second))
    names = (str(first), str(second)) if names[0] == names[1] else names
    table = comparison_table(scores, names, images=len(metrics[0]["images"]))
    write_text(path.with_suffix(".md"), table)
    return table, path.with_suffix(".md")


def comparison_table(
    scores: Mapping[str, Mapping[str, Any]], names: tuple[str, str], *, images: int
) -> str:
    """The comparison as Markdown.

    Args:
        scores: From `intervals.compare`.
        names: Of the two runs.
        images: Number of those that both were evaluated on.

    Returns:
        A row a score: both means over images, their difference with its 95% interval, the share of
        the resamples in which the second run has more, in percent, and a star where zero is
        outside of the interval. Below `FEWEST_IMAGES` there is a sentence in place of stars.
        Another one says what is not compared.
    """
    rows = [
        ["mean over images", *names, "difference", "95% interval", "second higher", ""],
        ["---", "---:", "---:", "---:", "---:", "---:", "---"],
    ]
    for name, score in scores.items():
        low, high = score["interval"]
        rows.append(
            [
                _TITLES.get(name, name),
                f"{score['first']:.4f}",
                f"{score['second']:.4f}",
                f"{score['difference']:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
                f"{score['better']:.0%}",
                "*" if images >= FEWEST_IMAGES and (low > 0 or high < 0) else "",
            ]
        )
    table = markdown_rows(rows)
    table += "\nAP, AR and AFNR rank the instances of all images together: they are not compared.\n"
    if images < FEWEST_IMAGES:
        table += f"\n{counted(images, 'image')}: too few to tell a difference from chance.\n"
    return table


def _name(run: Path) -> str:
    """What tells a run from others: its folder's name."""
    path = run.resolve()
    if path.name == "metrics.json":
        path = path.parent
    return path.parent.name if path.name == "evaluation" else path.name
