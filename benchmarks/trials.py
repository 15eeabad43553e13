"""Trainings to be compared: equal computing time, chosen images, any seed, each done only once.

A `Trial` is a config, overrides, and which images it is scored on; it trains on all others, in a
process of its own, for a given time of the processor (all cores together, so that a busy machine
shortens no training). How many steps that is, is measured before, once a kind of network. Scored
are the weights at the end: there is no validation split to choose by.

`run` keeps each result in a JSON file and takes it from there the next time, unless the trial was
defined otherwise. Networks and records lie in `runs/trials`, to be looked at.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "runs" / "trials"
RESULTS = ROOT / "benchmarks" / "results"
WELL = r"^([^_]+_Phase_[A-P]\d+)_"  # A172_Phase_C7 of A172_Phase_C7_1_00d00h00m_1.tif

# Steps to measure a step's time by, after as many that are not counted.
CALIBRATION_STEPS = 16


@dataclass(frozen=True)
class Trial:
    """One training and what it is scored on.

    Attributes:
        config: YAML file, relative to the project's folder.
        overrides: `key.path=value`, what is tried.
        images: Names of all images that take part.
        scored: Those among them that are scored; the others are trained on.
        cpu_seconds: The processor's time for the training steps.
        readouts: Overrides of `evaluate` by name, each a way from probabilities to instances.
        seed: Of weights, order of images and augmentation.
    """

    config: str
    overrides: tuple[str, ...]
    images: tuple[str, ...]
    scored: tuple[str, ...]
    cpu_seconds: float
    readouts: dict[str, tuple[str, ...]]
    seed: int = 0


def run(trial: Trial, name: str, results: Path, data: Sequence[str]) -> dict[str, Any]:
    """Train and score, or return what an earlier call found.

    Args:
        trial: What to do.
        name: Its key in the results, and its folder in `WORK`.
        results: JSON file; it is written anew after each trial.
        data: Overrides that say where the images are; they do not belong to the trial's definition.

    Returns:
        `scores` by readout and image, `steps`, `cpu_seconds`, `seconds`, `definition`.
    """
    known = json.loads(results.read_text()) if results.exists() else {}
    definition = json.loads(json.dumps(asdict(trial)))
    if known.get(name, {}).get("definition") != definition:
        request = {"name": name, "definition": definition, "data": list(data)}
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(request)],
            env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        known[name] = {**json.loads(done.stdout.splitlines()[-1]), "definition": definition}
        partial = results.with_suffix(".partial")
        partial.write_text(json.dumps(known, indent=1) + "\n")
        partial.replace(results)
    return known[name]


def mean_score(result: dict[str, Any], readout: str, score: str) -> float:
    """Mean over the scored images of `sa`, `sa50` or `dice`."""
    return float(np.mean([scores[score] for scores in result["scores"][readout].values()]))


def best_readout(result: dict[str, Any]) -> str:
    """The readout with the highest mean segmentation accuracy."""
    return max(result["scores"], key=lambda readout: mean_score(result, readout, "sa"))


def _work(name: str, trial: Trial, data: Sequence[str]) -> dict[str, Any]:
    """What a trial's process does."""
    from unet_keras import config as configuration
    from unet_keras.inference.loading import load_model
    from unet_keras.training.fit import train

    overrides = [*data, *trial.overrides, f"seed={trial.seed}", "train.panel_epochs=0"]
    config = configuration.load(ROOT / trial.config, overrides)
    records = _write_records(config, trial)
    overrides += [f"records.path={records}", "train.deterministic=false"]
    steps = int(trial.cpu_seconds / _cpu_seconds_a_step(overrides, trial))
    phase = f"{{steps: {steps}, learning_rate: 2e-3, warmup_steps: {min(60, steps // 5)}}}"
    # Defined otherwise, it is another run.
    run_dir = WORK / f"{re.sub('[ ,/=]+', '_', name)}-{hash_of(asdict(trial)):x}"
    overrides += [f"train.phases=[{phase}]", f"train.run_dir={run_dir}"]
    config = configuration.load(ROOT / trial.config, overrides)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    train(replace(config, train=replace(config.train, steps_per_epoch=max(steps // 4, 1))))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    model = load_model(run_dir / "model.keras")
    return {
        "steps": steps, "cpu_seconds": round(cpu, 1), "seconds": round(seconds, 1),
        "scores": _score(model, config, trial),
    }  # fmt: skip


def _write_records(config: Any, trial: Trial) -> Path:
    """Records with the scored images as test split and the others of the trial as train split."""
    from unet_keras.records.conversion import read_source
    from unet_keras.records.writer import write_records

    references = [
        replace(each, split="test" if each.file_name in trial.scored else "train")
        for each in read_source(config)
        if each.file_name in trial.images
    ]
    assert len(references) == len(trial.images), "images are missing"
    parted = "parted" if config.targets.separate_touching else "touching"
    digest = hash_of([sorted(trial.images), sorted(trial.scored), config.source.kind])
    path = WORK / "records" / f"{parted}-{digest:x}"
    write_records(
        sorted(references, key=lambda each: each.split != "train"), path,
        maps=("border", "distance"), sigma_pixels=config.targets.sigma_pixels,
        separate=config.targets.separate_touching,
    )  # fmt: skip
    return path


def hash_of(value: Any) -> int:
    """A number that stands for a JSON value, the same in every process."""
    import zlib

    return zlib.crc32(json.dumps(value).encode())


def _cpu_seconds_a_step(overrides: Sequence[str], trial: Trial) -> float:
    """The processor's time of a training step, measured once for all trials of one network."""
    import keras

    from unet_keras import config as configuration
    from unet_keras.model.geometry import geometry_of
    from unet_keras.records.manifest import read_manifest
    from unet_keras.training.data import training_data
    from unet_keras.training.fit import compiled_model, set_up_computation
    from unet_keras.training.planning import plan

    config = configuration.load(ROOT / trial.config, overrides)
    costly = [asdict(config.model), asdict(config.pipeline), config.targets.kind,
              config.loss.distance > 0, config.train.precision]  # fmt: skip
    file = WORK / "step_seconds" / f"{hash_of(costly):x}.json"
    if file.exists():
        return float(json.loads(file.read_text()))
    manifest = read_manifest(config.records.path)
    stretch = plan(config, CALIBRATION_STEPS)[0]
    set_up_computation(config)
    model = compiled_model(config, manifest, stretch)
    margin = geometry_of(model).margin_pixels
    times: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(time.process_time()),
        on_epoch_end=lambda *_: times.append(time.process_time()),
    )
    model.fit(
        training_data(config, stretch, start_step=0, margin=margin),
        epochs=2, steps_per_epoch=CALIBRATION_STEPS, verbose=0, shuffle=False, callbacks=[clock],
    )  # fmt: skip
    seconds = (times[3] - times[2]) / CALIBRATION_STEPS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(seconds))
    return seconds


def _score(model: Any, config: Any, trial: Trial) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by readout and image."""
    from unet_keras.evaluation.instances import segmentation_accuracy
    from unet_keras.evaluation.scoring import predictor_of, read_records, rules_of
    from unet_keras.inference.instances import foreground_of
    from unet_keras.records.manifest import read_manifest

    path = Path(config.records.path)
    manifest = read_manifest(path)
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in trial.readouts}
    predictors: dict[bool, Callable[[np.ndarray], np.ndarray]] = {}
    for tta in (False, True):
        predictors[tta] = predictor_of(
            model, replace(config, evaluate=replace(config.evaluate, tta=tta))
        )
    for record in read_records(path, manifest, "test"):
        maps = {}
        for name, changes in trial.readouts.items():
            settings = _settings(config.evaluate, changes)
            if settings.tta not in maps:
                maps[settings.tta] = foreground_of(predictors[settings.tta](record["image"]))
            # outlines of a class of their own belong to the cells, which then meet
            parted = manifest.separate and config.targets.kind == "cells"
            labels = rules_of(settings, separate=parted).label(maps[settings.tta])
            scores = segmentation_accuracy(record["outlines"], labels)
            truth, predicted = record["labels"] > 0, labels > 0
            dice = 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum())
            found[name][record["file_name"]] = {
                "sa": round(scores["segmentation_accuracy"], 4),
                "sa50": round(scores["segmentation_accuracy_50"], 4),
                "dice": round(float(dice), 4),
            }
    return found


def _settings(evaluate: Any, changes: Sequence[str]) -> Any:
    """The config's `evaluate` with `key=value` changes."""
    pairs = (change.partition("=") for change in changes)
    return replace(evaluate, **{key: _value(text) for key, _, text in pairs})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main() -> int:
    """Do what `run` asks for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("request")
    request = json.loads(parser.parse_args().request)
    definition = request["definition"]
    for name in ("overrides", "images", "scored"):
        definition[name] = tuple(definition[name])
    print(json.dumps(_work(request["name"], Trial(**definition), request["data"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
