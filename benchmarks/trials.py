"""Trainings to be compared: equal computing time, chosen images, any seed, each done only once.

A `Trial` is a config, overrides, and which images it is scored on; it trains on all others, in a
process of its own, for as many steps as fit a given time of the processor, all cores together. How
many that are is measured before, once for each kind of network and batch: a busy machine shortens
no training, and what augmentation takes, up to an eighth more or less, does not either. The time
that was really taken is kept with the result. Scored are the weights at the end: there is no
validation split to choose by.

`run` keeps each result in a JSON file and takes it from there the next time, unless the trial was
defined otherwise: other images, another value of a setting, another network to start from. Networks
and records lie in `runs/trials`, to be looked at.

The source is the config's: LIVECell's JSON, or folders of images and masks.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from results_file import keep_result, read_results, write_json
from shrinking import ShrunkReference
from trial_scores import score

from unet_keras import command
from unet_keras.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "runs" / "trials"
DEFAULT = ROOT / "unet_keras" / "model" / "default" / "model.keras"
WELL = r"^([^_]+_Phase_[A-P]\d+)_"  # A172_Phase_C7 of A172_Phase_C7_1_00d00h00m_1.tif

# Steps to measure a step's time by, after as many that are not counted.
CALIBRATION_STEPS = 16
# Fields that came later: left out of definitions where they say nothing, so that results from
# before them stay valid.
LATER = ("phases", "shrunk_to", "membranes")
# What a definition has beside a trial's fields.
DERIVED = ("default", "settings")
# Settings that do not decide what is learned here: where things lie, how readouts start, and what
# each trial sets by itself.
ELSEWHERE = (
    "seed", "source.", "records.path", "evaluate.", "train.run_dir", "train.phases",
    "train.steps_per_epoch", "train.monitor", "train.panel_epochs", "train.deterministic",
)  # fmt: skip


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
        phases: Share of the steps and further settings of each phase, such as
            `(0.5, "augment: none")`; empty for a single phase.
        shrunk_to: Height and width in pixels to which whole images are shrunk for training and
            for prediction; the prediction is enlarged again and scored at the images' own size.
        membranes: Whether segments between membranes are scored, as ISBI 2012 does it, at each
            readout's threshold, instead of cells.
    """

    config: str
    overrides: tuple[str, ...]
    images: tuple[str, ...]
    scored: tuple[str, ...]
    cpu_seconds: float
    readouts: dict[str, tuple[str, ...]]
    seed: int = 0
    phases: tuple[tuple[float, str], ...] = ()
    shrunk_to: tuple[int, int] | None = None
    membranes: bool = False

    def definition(self) -> dict[str, Any]:
        """What results are kept by, as JSON has it.

        Part of it are all settings that are not this package's defaults, whether they are the YAML
        file's or a trial's, and which network ships where it is started from.
        """
        values = json.loads(json.dumps(asdict(self)))
        values = {key: value for key, value in values.items() if value or key not in LATER}
        values["settings"] = settings_of(self.config, self.overrides)
        if "train.start_from=default" in self.overrides:
            values["default"] = digest(DEFAULT)
        return values

    @classmethod
    def defined(cls, definition: dict[str, Any]) -> "Trial":
        """The trial of a definition."""
        values = {key: value for key, value in definition.items() if key not in DERIVED}
        for key in ("overrides", "images", "scored", "phases", "shrunk_to"):
            if key in values:
                values[key] = tuple(values[key])
        return cls(**values)


def run(
    trial: Trial, name: str, results: Path, data: Sequence[str], *, network: bool = False
) -> dict[str, Any]:
    """Train and score, or return what an earlier call found, be it for a table of another name.

    Args:
        trial: What to do.
        name: Its key in the results, and its folder in `WORK`.
        results: JSON file; the trial's result is added to it.
        data: Overrides that say where the images are; they do not belong to the trial's definition.
        network: Train again where the network itself is gone; a result that is kept already stays.

    Returns:
        `scores` by readout and image, `steps`, `definition`, and of a training that was not
        interrupted `cpu_seconds` and `seconds`.
    """
    definition = trial.definition()
    kept = read_results(results)
    known = kept.get(name, {})
    if known.get("definition") != definition:
        known = next((each for each in kept.values() if each.get("definition") == definition), {})
        if known:
            keep_result(results, name, known)
    fits = bool(known)
    if fits and not (network and not (folder_of(trial, name) / "model.keras").exists()):
        return known
    request = {"name": name, "definition": definition, "data": list(data)}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(request)],
        env=environment, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: {name} ended with status {done.returncode}, for the reason above")
    if not fits:
        known = {**json.loads(done.stdout.splitlines()[-1]), "definition": definition}
        keep_result(results, name, known)
    return known


def digest(file: Path) -> str:
    """The start of a file's SHA-256, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def settings_of(config: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Settings of a YAML file and overrides that are not the defaults, but `ELSEWHERE`'s."""
    from unet_keras import config as configuration

    defaults = configuration.flatten(configuration.Config())
    values = configuration.flatten(configuration.load(ROOT / config, overrides))
    decisive = {
        key: value
        for key, value in values.items()
        if value != defaults.get(key) and not key.startswith(ELSEWHERE)
    }
    return json.loads(json.dumps(decisive, sort_keys=True))


def mean_score(result: dict[str, Any], readout: str, name: str) -> float:
    """Mean over the scored images of a score: `sa`, `sa50`, `dice`, or `v_rand`."""
    return float(np.mean([scores[name] for scores in result["scores"][readout].values()]))


def _work(name: str, trial: Trial, data: Sequence[str]) -> dict[str, Any]:
    """What a trial's process does."""
    from unet_keras import config as configuration
    from unet_keras.model.saved import load_model
    from unet_keras.training.fit import train
    from unet_keras.training.planning import CONFIG_NAME

    overrides = [*data, *trial.overrides, f"seed={trial.seed}", "train.panel_epochs=0"]
    config = configuration.load(ROOT / trial.config, overrides)
    records = write_split(config, trial)
    overrides += [f"records.path={records}", "train.deterministic=false"]
    steps = int(trial.cpu_seconds / _cpu_seconds_a_step(overrides, trial))
    run_dir = folder_of(trial, name)
    overrides += [f"train.phases=[{_phases(trial, steps)}]", f"train.run_dir={run_dir}"]
    config = configuration.load(ROOT / trial.config, overrides)
    config = replace(config, train=replace(config.train, steps_per_epoch=max(steps // 4, 1)))
    begun_with = run_dir / CONFIG_NAME
    if begun_with.exists() and configuration.differences(configuration.load(begun_with), config):
        shutil.rmtree(run_dir)  # the YAML file has changed since
    resumed = begun_with.exists()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    train(config)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    model = load_model(run_dir / "model.keras")
    # Of a training that was interrupted, this process has seen the end only.
    times = {} if resumed else {"cpu_seconds": round(cpu, 1), "seconds": round(seconds, 1)}
    return {"steps": steps, **times, "scores": score(model, config, trial)}


def folder_of(trial: Trial, name: str) -> Path:
    """The run folder of a trial; defined otherwise, it is another run."""
    return WORK / f"{re.sub('[ ,/=]+', '_', name)}-{hash_of(trial.definition()):x}"


def _phases(trial: Trial, steps: int) -> str:
    """The trial's phases as YAML; each has a warm-up and half a cosine of its own."""
    written = []
    for share, more in trial.phases or ((1.0, ""),):
        length = round(share * steps)
        parts = [f"steps: {length}", "learning_rate: 2e-3", f"warmup_steps: {min(60, length // 5)}"]
        written.append("{" + ", ".join([*parts, *([more] if more else [])]) + "}")
    return ", ".join(written)


def write_split(config: Any, trial: Trial) -> Path:
    """Records with the scored images as test split and the others of the trial as train split."""
    from unet_keras.records.conversion import read_source
    from unet_keras.records.writer import write_records

    references = [
        replace(each, split="test" if each.file_name in trial.scored else "train")
        for each in read_source(config)
        if each.file_name in trial.images
    ]
    missing = set(trial.images) - {each.file_name for each in references}
    if missing:
        raise InputError(f"{config.source.images} lacks {', '.join(sorted(missing))}")
    size = f"-{trial.shrunk_to[0]}x{trial.shrunk_to[1]}" if trial.shrunk_to else ""
    if trial.shrunk_to:
        references = [
            ShrunkReference.of(each, trial.shrunk_to) if each.split == "train" else each
            for each in references
        ]
    parted = "parted" if config.targets.separate_touching else "touching"
    digest = hash_of([sorted(trial.images), sorted(trial.scored), config.source.kind])
    path = WORK / "records" / f"{parted}-{digest:x}{size}"
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
    write_json(file, seconds)
    return seconds


def main() -> None:
    """Do what `run` asks for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("request")
    command.run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    request = json.loads(arguments.request)
    trial = Trial.defined(request["definition"])
    print(json.dumps(_work(request["name"], trial, request["data"])))


if __name__ == "__main__":
    main()
