"""Choosing how instances are found, on the validation split and on no other.

RUN/tuned.yaml holds what was chosen, a part of the run's config: it takes precedence over the
config, and values on the command line over it.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from omegaconf import OmegaConf

from unet_keras.errors import InputError
from unet_keras.evaluation.files import write_text
from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.evaluation.pixels import HISTOGRAM_BINS, ProbabilityHistogram
from unet_keras.evaluation.scoring import read_records
from unet_keras.inference.averaging import Prediction
from unet_keras.inference.instances import InstanceRules, foreground_of
from unet_keras.pipeline.kinds import Kind, parts_touching
from unet_keras.records.manifest import read_manifest
from unet_keras.settings import Evaluate
from unet_keras.targets.labels import separate_touching

logger = logging.getLogger(__name__)

SPLIT = "val"
DEFAULT_RULES = InstanceRules()
TUNED_FILE = "tuned.yaml"
_NOT_OF_RULES = ("split", "membranes")
COARSE = tuple(step / 10 for step in range(1, 10))
FINE = (-0.05, -0.025, 0.025, 0.05)
AREAS = (0, 5, 10, 20, 30, 50, 80, 120)
SMOOTHINGS = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0)
PROMINENCES = (0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4)

Objective = Literal["segmentation_accuracy", "dice"]
Progress = Callable[[int], Any]


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        rules: Threshold, smallest area and, of a watershed, smoothing and prominence of its seeds;
            the others as they came.
        score: What is reached with them on the validation split, in [0, 1].
        before: What was reached there with the rules that came, in [0, 1].
        objective: What was made as high as possible.
        images: Number of those of the validation split.
    """

    rules: InstanceRules
    score: float
    before: float
    objective: str
    images: int


def tune(
    records: Path,
    predictor: Prediction,
    *,
    kind: Kind = "cells",
    rules: InstanceRules = DEFAULT_RULES,
    objective: Objective = "segmentation_accuracy",
    progress: Progress | None = None,
) -> Tuned:
    """Choose threshold, smallest area, smoothing and prominence of seeds on the validation split.

    Dice is looked up at every thousandth of the threshold; nothing else changes it. Segmentation
    accuracy is tried at tenths of the threshold, then around the best; of a watershed at
    `SMOOTHINGS`, then `PROMINENCES`; then at `AREAS`. Among equals the value nearest to where the
    choice starts is taken.

    Args:
        records: Their folder.
        predictor: From an image (H, W, C) to probabilities float32 (H, W, K).
        kind: What the network learned.
        rules: Where the choice starts; they grow where touching instances were parted for it.
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
    predicted = _predict(records, predictor, kind, report)
    search = _tune_dice if objective == "dice" else _tune_accuracy
    return Tuned(*search(predicted, rules, report), objective=objective, images=images)


# The chosen rules, their score, and that of those it started from.
Chosen = tuple[InstanceRules, float, float]
# An image's probabilities, its true outlines, and whether touching instances are parted.
Kept = tuple[Path, tuple[bytes, ...], bool]
Predicted = Iterator[tuple[dict[str, Any], np.ndarray, bool]]


def _predict(records: Path, predictor: Prediction, kind: Kind, progress: Progress) -> Predicted:
    """Each validation record, its predicted foreground, and whether touching ones are parted."""
    manifest = read_manifest(records)
    parted = parts_touching(manifest, kind)
    for record in read_records(records, manifest, SPLIT):
        yield record, foreground_of(predictor(record["image"])), parted
        progress(1)


def _tune_dice(predicted: Predicted, start: InstanceRules, _: Progress) -> Chosen:
    histogram = ProbabilityHistogram()
    for record, probability, separate in predicted:
        labels = record["labels"]
        histogram.add((separate_touching(labels) if separate else labels) > 0, probability)
    step = min(round(HISTOGRAM_BINS * histogram.best_threshold()[0]), HISTOGRAM_BINS - 1)
    score, before = (
        histogram.counts_at(at).dice for at in (step, round(HISTOGRAM_BINS * start.threshold))
    )
    return replace(start, threshold=step / HISTOGRAM_BINS), score, before


def _tune_accuracy(predicted: Predicted, start: InstanceRules, progress: Progress) -> Chosen:
    # on disk, because the probabilities of LIVECell's validation images take 800 MB
    with tempfile.TemporaryDirectory(prefix="unet_keras_tuning_") as folder:
        kept: list[Kept] = []
        for record, probability, separate in predicted:
            file = Path(folder) / f"{len(kept)}.npy"
            np.save(file, probability)
            kept.append((file, record["outlines"], separate))

        @cache
        def score(rules: InstanceRules) -> float:
            return _mean_accuracy(kept, rules, progress)

        def best(rules: InstanceRules, key: str, values: Iterable[Any]) -> InstanceRules:
            """The rules, or the same with another value of a key, whichever scores best."""
            first = getattr(start, key)
            candidates = [rules, *(replace(rules, **{key: value}) for value in values)]
            return max(candidates, key=lambda r: (score(r), -abs(getattr(r, key) - first)))

        chosen = best(start, "threshold", COARSE)
        around = [round(chosen.threshold + step, 3) for step in FINE]
        chosen = best(chosen, "threshold", [level for level in around if 0 < level < 1])
        if chosen.method == "watershed":
            # Less is left of a maximum that is smoothed, so the one follows the other.
            chosen = best(chosen, "seed_smoothing", SMOOTHINGS)
            chosen = best(chosen, "seed_prominence", PROMINENCES)
        chosen = best(chosen, "minimum_area", AREAS)
        return chosen, score(chosen), score(start)


def _mean_accuracy(kept: Sequence[Kept], rules: InstanceRules, progress: Progress) -> float:
    """Mean segmentation accuracy over images, against the original outlines."""
    scores = []
    for file, outlines, separate in kept:
        grow_pixels = rules.grow_pixels if separate else 0
        predicted = replace(rules, grow_pixels=grow_pixels).label(np.load(file))
        scores.append(segmentation_accuracy(outlines, predicted)["segmentation_accuracy"])
        progress(1)
    return float(np.mean(scores))


def given_values(overrides: Sequence[str], settings: Evaluate) -> dict[str, Any]:
    """The values of `evaluate` that a command line gave for a tuning.

    Args:
        overrides: `key.path=value` each, of any section.
        settings: Of the config that they led to.

    Returns:
        By name, for YAML; without those that change neither probabilities nor instances.
    """
    given = OmegaConf.from_dotlist(list(overrides)).get("evaluate", {})
    values = {name: getattr(settings, name) for name in given if name not in _NOT_OF_RULES}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def write_tuned(folder: Path, tuned: Tuned, given: Mapping[str, Any] | None = None) -> Path:
    """Write what was chosen into a run's folder, and what it was chosen for.

    Args:
        folder: Of the run.
        tuned: From `tune`.
        given: From `given_values`: the choice was made with these; none without them.

    Returns:
        The path of `tuned.yaml`.

    Raises:
        InputError: It cannot be written.
    """
    names = ["method", "threshold", "minimum_area"]
    if tuned.rules.method == "watershed":
        names += ["seed_smoothing", "seed_prominence"]
    values = {**(given or {}), **{name: getattr(tuned.rules, name) for name in names}}
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
