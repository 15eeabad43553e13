"""Choosing the threshold and the smallest area, on the validation split and on no other.

RUN/tuned.yaml holds what was chosen, a part of the run's config: it takes precedence over the
config, and values on the command line over it.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from unet_keras.errors import InputError
from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.evaluation.pixels import HISTOGRAM_BINS, ProbabilityHistogram
from unet_keras.evaluation.report import write_text
from unet_keras.evaluation.scoring import Predictor, read_records
from unet_keras.inference.instances import InstanceRules, Method, foreground_of
from unet_keras.records.manifest import read_manifest
from unet_keras.targets.labels import separate_touching

logger = logging.getLogger(__name__)

SPLIT = "val"
TUNED_FILE = "tuned.yaml"
COARSE = tuple(step / 10 for step in range(1, 10))
FINE = (-0.05, -0.025, 0.025, 0.05)
AREAS = (0, 5, 10, 20, 30, 50, 80, 120)

Objective = Literal["segmentation_accuracy", "dice"]
Progress = Callable[[int], Any]


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        threshold: Probability from which a pixel is foreground.
        minimum_area: Smaller instances, in pixels, are taken for dirt.
        objective: What was made as high as possible.
        score: What it is on the validation split with these values.
        before: What it is with the config's.
        images: Of the validation split.
    """

    threshold: float
    minimum_area: int
    objective: str
    score: float
    before: float
    images: int


def tune(
    records: Path,
    predictor: Predictor,
    *,
    threshold: float = 0.5,
    minimum_area: int = 10,
    method: Method = "components",
    seed_prominence: float = 0.2,
    grow_pixels: int = 1,
    objective: Objective = "segmentation_accuracy",
    progress: Progress | None = None,
) -> Tuned:
    """Choose threshold and smallest area on the validation split.

    Dice is looked up at every thousandth of the threshold; areas do not change it. Segmentation
    accuracy is tried at tenths of the threshold, then around the best, then at `AREAS`. Among
    equals the value nearest to where the choice starts is taken.

    Args:
        records: Their folder.
        predictor: From an image (H, W, C) to probabilities (H, W, K).
        threshold: Where the choice starts.
        minimum_area: Likewise, in pixels.
        method: How instances are found (`label_instances`).
        seed_prominence: Likewise.
        grow_pixels: Likewise; used where the records' touching instances are separated.
        objective: `segmentation_accuracy` (mean over images) or `dice` (of all pixels).
        progress: Called with 1 after each image of each step.

    Returns:
        What was chosen.

    Raises:
        InputError: No records, or none to validate with.
    """
    images = read_manifest(records).splits[SPLIT].images
    if not images:
        raise InputError(
            f"{records} has no images in split {SPLIT!r}, and nothing else may be tuned on; make "
            "records with validation images, or give evaluate.threshold"
        )
    report = progress or (lambda _: None)
    predicted = _predict(records, predictor, report)
    rules = InstanceRules(method=method, seed_prominence=seed_prominence, grow_pixels=grow_pixels)
    search = _tune_dice if objective == "dice" else partial(_tune_accuracy, rules=rules)
    chosen, score, before = search(predicted, (threshold, minimum_area), report)
    return Tuned(*chosen, objective, score, before, images)


Values = tuple[float, int]
Predicted = Iterator[tuple[dict[str, Any], np.ndarray, bool]]


def _predict(records: Path, predictor: Predictor, progress: Progress) -> Predicted:
    """Each validation record, its predicted foreground, and whether touching ones are parted."""
    manifest = read_manifest(records)
    for record in read_records(records, manifest, SPLIT):
        yield record, foreground_of(predictor(record["image"])), manifest.separate
        progress(1)


def _tune_dice(predicted: Predicted, start: Values, _: Progress) -> tuple[Values, float, float]:
    histogram = ProbabilityHistogram()
    for record, probability, separate in predicted:
        labels = record["labels"]
        histogram.add((separate_touching(labels) if separate else labels) > 0, probability)
    step = min(round(HISTOGRAM_BINS * histogram.best_threshold()[0]), HISTOGRAM_BINS - 1)
    score, before = (
        histogram.counts_at(at).dice for at in (step, round(HISTOGRAM_BINS * start[0]))
    )
    return (step / HISTOGRAM_BINS, start[1]), score, before


def _tune_accuracy(
    predicted: Predicted, start: Values, progress: Progress, *, rules: InstanceRules
) -> tuple[Values, float, float]:
    # on disk, because the probabilities of LIVECell's validation images take 800 MB
    with tempfile.TemporaryDirectory(prefix="unet_keras_tuning_") as folder:
        kept: list[tuple[Path, tuple[bytes, ...], bool]] = []
        for record, probability, separate in predicted:
            file = Path(folder) / f"{len(kept)}.npy"
            np.save(file, probability)
            kept.append((file, record["outlines"], separate))

        @cache
        def score(threshold: float, area: int) -> float:
            at = replace(rules, threshold=threshold, minimum_area=area)
            return _mean_accuracy(kept, at, progress)

        def best(candidates: Iterable[Values]) -> Values:
            return max(
                candidates,
                key=lambda v: (score(*v), -abs(v[0] - start[0]), -abs(v[1] - start[1])),
            )

        coarse = best([start, *((level, start[1]) for level in COARSE)])
        around = [round(coarse[0] + step, 3) for step in FINE]
        fine = best([coarse, *((level, start[1]) for level in around if 0 < level < 1)])
        chosen = best([fine, *((fine[0], area) for area in AREAS)])
        return chosen, score(*chosen), score(*start)


def _mean_accuracy(
    kept: Sequence[tuple[Path, tuple[bytes, ...], bool]], rules: InstanceRules, progress: Progress
) -> float:
    """Mean segmentation accuracy over images, against the original outlines."""
    scores = []
    for file, outlines, separate in kept:
        grow_pixels = rules.grow_pixels if separate else 0
        predicted = replace(rules, grow_pixels=grow_pixels).label(np.load(file))
        scores.append(segmentation_accuracy(outlines, predicted)["segmentation_accuracy"])
        progress(1)
    return float(np.mean(scores))


def write_tuned(folder: Path, tuned: Tuned) -> Path:
    """Write what was chosen into a run's folder.

    Args:
        folder: Of the run.
        tuned: From `tune`.

    Returns:
        The path of `tuned.yaml`.
    """
    values = {"threshold": tuned.threshold, "minimum_area": tuned.minimum_area}
    head = (
        f"# Chosen on the {tuned.images} validation images by {tuned.objective}: "
        f"{tuned.score:.4f}, with the config's values {tuned.before:.4f}.\n"
        "# Takes precedence over config.yaml; remove this file to go back.\n"
    )
    path = folder / TUNED_FILE
    write_text(path, head + yaml.safe_dump({"evaluate": values}, sort_keys=False))
    return path


def tuned_overrides(folder: Path) -> list[str]:
    """Read what was chosen for a run, as `key.path=value` overrides of its config.

    Args:
        folder: Of the run.

    Returns:
        The overrides; none where nothing was tuned. Older than the model, they are warned of.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / TUNED_FILE
    if not path.is_file():
        return []
    model = folder / "model.keras"
    if model.is_file() and model.stat().st_mtime > path.stat().st_mtime:
        logger.warning("%s is older than the run's model: tune again", path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))["evaluate"]
        return [f"evaluate.{key}={value}" for key, value in values.items()]
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, UnicodeDecodeError):
        raise InputError(
            f"{path} is damaged: remove it, or tune again with python -m unet_keras.evaluate "
            f"{folder} --tune"
        ) from None
