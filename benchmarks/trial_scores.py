"""What a trial's network scores on whole images at their own size: cells, or segments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shrinking import at_size

if TYPE_CHECKING:
    from trials import Trial


Scores = dict[str, dict[str, dict[str, float]]]


def score(model: Any, config: Any, trial: "Trial") -> Scores:
    """Scores of a network by readout and image."""
    from unet_keras.evaluation.scoring import predictor_of

    predictors: dict[bool, Callable[[np.ndarray], np.ndarray]] = {}
    for tta in (False, True):
        predictor = predictor_of(model, replace(config, evaluate=replace(config.evaluate, tta=tta)))
        predictors[tta] = at_size(predictor, trial.shrunk_to) if trial.shrunk_to else predictor
    return score_with(predictors, config, trial)


def score_with(
    predictors: Mapping[bool, Callable[[np.ndarray], np.ndarray]], config: Any, trial: "Trial"
) -> Scores:
    """Scores of what predicts without flips and over them, by readout and image."""
    from unet_keras.evaluation.scoring import read_records, rules_of
    from unet_keras.inference.instances import foreground_of
    from unet_keras.pipeline.kinds import parts_touching
    from unet_keras.records.manifest import read_manifest

    path = Path(config.records.path)
    manifest = read_manifest(path)
    found: Scores = {name: {} for name in trial.readouts}
    for record in read_records(path, manifest, "test"):
        maps = {}
        for name, changes in trial.readouts.items():
            settings = _settings(config.evaluate, changes)
            if settings.tta not in maps:
                maps[settings.tta] = foreground_of(predictors[settings.tta](record["image"]))
            if trial.membranes:
                scores = _membrane_scores(record["labels"], maps[settings.tta], settings.threshold)
            else:
                parted = parts_touching(manifest, config.targets.kind)
                labels = rules_of(settings, separate=parted).label(maps[settings.tta])
                scores = _cell_scores(record, labels)
            rounded = {key: round(float(value), 4) for key, value in scores.items()}
            found[name][record["file_name"]] = rounded
    return found


def _cell_scores(record: dict[str, Any], labels: np.ndarray) -> dict[str, float]:
    from unet_keras.evaluation.boundaries import count_boundaries
    from unet_keras.evaluation.instances import segmentation_accuracy

    scores = segmentation_accuracy(record["outlines"], labels)
    truth, predicted = record["labels"] > 0, labels > 0
    return {
        "sa": scores["segmentation_accuracy"],
        "sa50": scores["segmentation_accuracy_50"],
        "dice": 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()),
        "boundary_f1": count_boundaries(record["labels"], labels).f1,
    }


def _membrane_scores(
    truth: np.ndarray, foreground: np.ndarray, threshold: float
) -> dict[str, float]:
    """V_rand after thinning, and the share of the pixels that are wrong."""
    from unet_keras.evaluation.membranes import compare_segments, thin_borders
    from unet_keras.targets.labels import separate_touching

    mask = foreground >= threshold
    return {
        "v_rand": compare_segments(truth, thin_borders(mask)).rand,
        "pixel_error": np.mean(mask != (separate_touching(truth) > 0)),
    }


def _settings(evaluate: Any, changes: Sequence[str]) -> Any:
    """The config's `evaluate` with `key=value` changes."""
    pairs = (change.partition("=") for change in changes)
    return replace(evaluate, **{key: _value(text) for key, _, text in pairs})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
