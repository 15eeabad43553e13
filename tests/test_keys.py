"""Every key of the config does something: two values of it give two results."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from unet_keras.config import Config, load
from unet_keras.evaluation import scoring
from unet_keras.inference.loading import Run, describe_run
from unet_keras.model.unet import build_unet
from unet_keras.pipeline import augment, dataset
from unet_keras.records import conversion
from unet_keras.records.manifest import read_manifest
from unet_keras.sources.synthetic import write_livecell_layout
from unet_keras.training import data, fit
from unet_keras.training.optimizers import averaged_weights
from unet_keras.training.panels import Panels
from unet_keras.training.phases import Stretch
from unet_keras.training.resume import newest_state
from unet_keras.training.speed import Profile
from unet_keras.training.state import RunState

SMALL = ["source.counts=[3, 1, 1]", "source.size=[96, 112]", "records.workers=1"]
NETWORK = ["model.base_filters=4", "model.depth=2", "pipeline.crop=[64, 64]"]
# Compiling would take longer than what is compiled.
QUICK = ["augment.jit_compile=false"]


def leaves(section: Any = Config, prefix: str = "") -> list[str]:
    """Return the path of every key; phases count as one."""
    found = []
    for field in dataclasses.fields(section):
        inner = field.default_factory
        if dataclasses.is_dataclass(inner):
            found += leaves(inner, f"{prefix}{field.name}.")
        else:
            found.append(prefix + field.name)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source(config: Config) -> list[Any]:
    return [(r.file_name, r.group, r.split) for r in conversion.read_source(config)]


def instances(config: Config) -> list[Any]:
    return [(r.file_name, r.load().outlines) for r in conversion.read_source(config)]


def classes(config: Config) -> list[Any]:
    return [r.load().classes.tolist() for r in conversion.read_source(config)]


def downloads(config: Config) -> list[Any]:
    """What would be fetched, and how it would be checked."""
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            conversion,
            "download_livecell",
            lambda *_, url, sha256, progress: seen.append((url, sha256)),
        )
        conversion.read_source(config)
    return seen


def pixels(config: Config) -> bytes:
    return b"".join(r.load().image.tobytes() for r in conversion.read_source(config))


def records(config: Config) -> list[Any]:
    conversion.convert(config)
    path = Path(config.records.path)
    files = sorted(file for file in path.iterdir() if file.suffix == ".tfrecord")
    return [(str(file), file.read_bytes()) for file in files]


def graph(config: Config) -> tf.data.Dataset:
    """The training batches, through what training itself calls; none is made yet."""
    if not Path(config.records.path).exists():
        conversion.convert(config)
    stretch = fit.plan(config, 1)[0]
    return fit.training_data(config, stretch, start_step=0, margin=0)


def batches(config: Config) -> list[Any]:
    """The first training batches."""
    return [part.numpy().tobytes() for batch in graph(config).take(2) for part in batch]


def network(config: Config) -> list[Any]:
    conversion.convert(config)
    model = fit.compiled_model(config, read_manifest(config.records.path), fit.plan(config, 1)[0])
    image = np.random.default_rng(0).normal(128, 20, (1, 188, 188, 1)).astype("float32")
    # In training mode, so that dropout shows.
    outputs = [np.asarray(model(image, training=True)).tobytes()]
    return outputs + [np.asarray(weight).tobytes() for weight in model.get_weights()]


def loss(config: Config) -> float:
    conversion.convert(config)
    model = fit.compiled_model(config, read_manifest(config.records.path), fit.plan(config, 1)[0])
    dataset = fit.training_data(config, fit.plan(config, 1)[0], start_step=0, margin=0)
    image, packed = next(iter(dataset))
    return float(model.loss(packed, model(image)))


def training(config: Config) -> list[Any]:
    conversion.convert(config)
    run = fit.train(config)
    state = newest_state(run)
    assert state is not None
    kept = sorted(path.name for path in run.glob("checkpoints/*"))
    return [str(run), state.step, kept]


def phases(config: Config) -> list[Stretch]:
    return fit.plan(config, 1)


def policy(config: Config) -> str:
    before = keras.config.dtype_policy()
    try:
        fit.set_up_computation(config)
        return keras.config.dtype_policy().name
    finally:
        keras.config.set_dtype_policy(before)


def determinism(config: Config) -> list[str]:
    called: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tf.config.experimental, "enable_op_determinism", lambda: called.append("enabled")
        )
        fit.set_up_computation(config)
    return called


def best_epoch(config: Config) -> int:
    """Which epoch is best where loss and Dice disagree."""
    state, stretch = RunState(), fit.plan(config, 1)[0]
    for figures in ({"val_loss": 0.2, "val_dice": 0.7}, {"val_loss": 0.3, "val_dice": 0.8}):
        state.advance(stretch, 1, figures, config.train.monitor)
    return state.best_epoch


def panels(config: Config) -> list[int]:
    conversion.convert(config)
    stretches = fit.plan(config, 1)
    validation = fit.validation_data(config, stretches[0], margin=0)
    made = fit.make_callbacks(config, Path("run"), RunState(), stretches, validation)
    return [callback.every for callback in made if isinstance(callback, Panels)]


def spread(config: Config) -> str:
    conversion.convert(config)
    return type(fit.strategy_of(config, read_manifest(config.records.path))).__name__


def profiled(config: Config) -> list[int]:
    conversion.convert(config)
    made = fit.make_callbacks(config, Path("run"), RunState(), fit.plan(config, 1), None)
    return [callback.steps for callback in made if isinstance(callback, Profile)]


def scores(config: Config) -> Any:
    """Scores of a predictor that says how bright each pixel is."""
    conversion.convert(config)
    bright = lambda image: np.clip((image / 255.0) ** 2 * 2, 0, 1).astype("float32")  # noqa: E731
    results = scoring.score_split(config, bright).results()
    return results["images"], results["overall"]


def description(config: Config) -> dict[str, Any]:
    """What an exported model would say of itself."""
    conversion.convert(config)
    run = Run(Path(config.records.path), config, keras.Sequential())
    return describe_run(run)["training_data"]


def tile(config: Config) -> list[Any]:
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "predict_tiled", lambda model, image, **given: seen.append(given))
        scoring.predictor_of(None, config)(np.zeros((8, 8, 1), np.uint8))
    return seen


def averaged(config: Config) -> list[Any]:
    """Which networks are asked, and how often."""
    seen: list[str] = []

    def answer(name: str, image: np.ndarray) -> np.ndarray:
        seen.append(name)
        return np.zeros((*image.shape[:2], 1), np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "predict_tiled", lambda model, image, **given: answer("run", image))
        patch.setattr(scoring, "open_predictor", lambda path, **given: partial(answer, str(path)))
        scoring.predictor_of(None, config)(np.zeros((8, 8, 1), np.uint8))
    return seen


def workers(config: Config) -> Any:
    """The result is the same for any number of them, so what is handed on is looked at."""
    seen, write = {}, conversion.write_records

    def note(*arguments: Any, **given: Any) -> Any:
        seen.update(given)
        return write(*arguments, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "write_records", note)
        conversion.convert(config)
    return seen["workers"]


def cached(config: Config) -> Any:
    """Batches are the same with and without, so what is handed on is looked at."""
    seen = {}
    conversion.convert(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_dataset", lambda *_, **given: seen.update(given))
        fit.training_data(config, fit.plan(config, 1)[0], start_step=0, margin=0)
    return seen["cache"]


def optimizer(config: Config) -> list[float]:
    """Two weights after three steps, the first of which is large."""
    made = fit.build_optimizer(0.1, **dataclasses.asdict(config.train.optimizer))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(made, loss="mse", run_eagerly=True)
    for size in (9.0, 1.0, 1.0):
        model.train_on_batch(np.full((1, 2), size), np.zeros((1, 1)))
    with averaged_weights(model):
        return [float(value) for value in np.ravel(model.get_weights()[0])]


def compiled(config: Config) -> set[bool]:
    """What of the augmentation is compiled; the result is the same but for rounding."""
    seen = set()
    with pytest.MonkeyPatch.context() as patch:
        function = tf.function

        def note(*given: Any, jit_compile: bool | None = None, **more: Any) -> Any:
            seen.add(bool(jit_compile))
            return function(*given, jit_compile=jit_compile, **more)

        for cached_by_settings in (augment._steps, dataset._compiled):
            cached_by_settings.cache_clear()
        patch.setattr(tf, "function", note)
        graph(config)
    return seen


def places(config: Config) -> set[str]:
    """Where resampling is placed; a device that is not there would be an error."""
    seen = set()
    with pytest.MonkeyPatch.context() as patch:
        for module in (augment, dataset):
            patch.setattr(module, "device_name", lambda device: seen.add(device) or "/CPU:0")
        graph(config)
    return seen


OTHER = ["source.kind=coco", "source.images=other/images", "source.annotations=other/annotations"]
PAIRS = ["source.kind=folders", "source.images=pairs/images", "source.annotations=pairs/masks"]
LABELED = [*PAIRS, "source.mask_kind=labels"]
COCO = ["source.kind=coco", "source.images=data/images", "source.annotations=data/annotations"]
FETCHED = [*COCO, "source.download=true"]
OPTIMIZER = {
    "kind": ("adam", "sgd"),
    "momentum": ("0.5", "0.9"),
    "betas": ("[0.9, 0.999]", "[0.8, 0.99]"),
    "amsgrad": ("false", "true"),
    "weight_decay": ("0", "0.1"),
    "clip_norm": ("0", "1"),
    "average": ("0", "0.5"),
}
# key: how its effect is seen, one value, another value, what both need besides
EFFECTS: dict[str, tuple[Callable[[Config], Any], str, str, list[str]]] = {
    "seed": (pixels, "0", "1", []),
    "source.kind": (pixels, "coco", "synthetic", OTHER[1:]),
    "source.images": (pixels, "data/images", "other/images", [*COCO]),
    "source.annotations": (instances, "data/annotations", "other/annotations", [*COCO]),
    "source.download": (downloads, "true", "false", COCO),
    "source.url": (downloads, "https://a", "https://b", FETCHED),
    "source.sha256": (downloads, "{}", f"{{images.zip: {'a' * 64}}}", FETCHED),
    "source.pixel_size": (lambda config: conversion.convert(config).pixel_size, "0.5", "1.2", []),
    "source.license": (description, "''", "'CC BY-NC 4.0'", []),
    "source.group_pattern": (source, "'^([^_]+)_'", "'(Phase)'", COCO),
    "source.on_leak": (source, "warn", "drop", COCO),
    "source.mask_kind": (instances, "binary", "labels", PAIRS),
    "source.class_values": (classes, "[1, 2]", "[2, 1]", [*PAIRS, "source.mask_kind=classes"]),
    "source.lists": (source, "lists/a", "lists/b", LABELED),
    "source.fractions": (source, "[0.5, 0.25, 0.25]", "[0.25, 0.25, 0.5]", LABELED),
    "source.split_by_group": (source, "true", "false", LABELED),
    "source.counts": (source, "[3, 1, 1]", "[4, 1, 1]", []),
    "source.size": (pixels, "[96, 112]", "[112, 96]", []),
    "targets.kind": (batches, "boundary", "cells_and_borders", ["evaluate.method=watershed"]),
    "targets.sigma_pixels": (records, "5", "3", []),
    "targets.separate_touching": (records, "true", "false", []),
    "targets.overlap": (records, "smallest", "largest", []),
    "records.path": (records, "records/a", "records/b", []),
    "records.workers": (workers, "1", "2", []),
    "records.maps": (records, "[border]", "[border, distance]", []),
    "records.shard_images": (records, "1", "2", []),
    "pipeline.crop": (batches, "[64, 64]", "[48, 64]", []),
    "pipeline.batch_size": (batches, "1", "2", []),
    "pipeline.cache": (cached, "true", "false", []),
    "model.base_filters": (network, "4", "5", []),
    "model.depth": (network, "1", "2", []),
    "model.stride": (network, "1", "2", []),
    "model.padding": (network, "same", "valid", ["model.normalization=none"]),
    "model.normalization": (network, "batch", "none", []),
    "model.output": (network, "sigmoid", "softmax", []),
    "model.dropout": (network, "0", "0.5", []),
    "loss.cross_entropy": (loss, "1", "2", []),
    "loss.dice": (loss, "1", "2", []),
    "loss.distance": (loss, "0", "1", ["records.maps=[border, distance]"]),
    "loss.border_weight": (loss, "0", "10", []),
    "loss.class_weights": (loss, "[3, 1]", "balanced", []),
    "loss.normalize": (loss, "weights", "pixels", []),
    "train.run_dir": (training, "runs/a", "runs/b", []),
    "train.start_from": (training, "''", "start.keras", []),
    "train.steps_per_epoch": (training, "1", "2", []),
    **{
        f"train.optimizer.{key}": (
            optimizer,
            *values,
            ["train.optimizer.kind=sgd"] if key == "momentum" else [],
        )
        for key, values in OPTIMIZER.items()
    },
    "train.precision": (policy, "float32", "mixed_bfloat16", []),
    "train.phases": (phases, "[{epochs: 1}]", "[{epochs: 2, augment: none}]", []),
    "train.monitor": (best_epoch, "val_loss", "val_dice", []),
    "train.checkpoint_epochs": (training, "0", "1", ["train.phases=[{epochs: 3}]"]),
    "train.panel_epochs": (panels, "0", "3", []),
    "train.distribute": (spread, "none", "mirrored", []),
    "train.profile_steps": (profiled, "0", "2", []),
    "train.deterministic": (determinism, "true", "false", []),
    "evaluate.split": (scores, "val", "test", []),
    "evaluate.threshold": (scores, "0.5", "0.6", []),
    "evaluate.minimum_area": (scores, "0", "200", []),
    "evaluate.method": (scores, "components", "watershed", ["evaluate.threshold=0.3"]),
    "evaluate.seed_prominence": (scores, "0.02", "0.9", ["evaluate.method=watershed"]),
    "evaluate.seed_smoothing": (scores, "0", "5", ["evaluate.method=watershed"]),
    "evaluate.grow_pixels": (scores, "0", "3", []),
    "evaluate.tta": (averaged, "false", "true", []),
    "evaluate.ensemble": (averaged, "[]", "[runs/b]", []),
    "evaluate.tile": (tile, "0", "64", []),
    "evaluate.membranes": (scores, "false", "true", []),
    "augment.jit_compile": (compiled, "true", "false", []),
    "augment.device": (places, "auto", "cpu:1", []),
}
SMOOTH = ["augment.kind=smooth"]
AUGMENT = {
    "mode": ("replace", "none"),
    "kind": ("grid", "smooth"),
    "grid": ("[3, 3]", "[4, 5]"),
    "deviation_pixels": ("10", "4"),
    "alpha": ("100", "300", SMOOTH),
    "sigma": ("8", "12", SMOOTH),
    "rotation_degrees": ("180", "0"),
    "shift_pixels": ("0", "5"),
    "zoom": ("[1, 1]", "[0.8, 1.2]"),
    "flip": ("true", "false"),
    "brightness": ("0", "0.3"),
    "contrast": ("0", "0.3"),
    "gamma": ("[1, 1]", "[0.7, 1.5]"),
    "noise": ("0", "0.3"),
    "blur_pixels": ("0", "2"),
    "image_order": ("1", "3"),
}
EFFECTS |= {
    f"augment.{key}": (batches, first, second, *(needs or [[]]))
    for key, (first, second, *needs) in AUGMENT.items()
}


def make_sources(folder: Path) -> None:
    """Write two LIVECell-like folders, the first with a leak, and one of images and masks."""
    for name, seed in (("data", 0), ("other", 1)):
        counts = {"train": 3, "val": 1, "test": 1}
        write_livecell_layout(folder / name, counts, seed=seed, size=(96, 112))
    train, val = (folder / f"data/annotations/livecell_coco_{s}.json" for s in ("train", "val"))
    merged, leaked = json.loads(train.read_text()), json.loads(val.read_text())
    merged["images"] += leaked["images"]
    merged["annotations"] += leaked["annotations"]
    train.write_text(json.dumps(merged))
    for name, listed in (("a", "A_0\nB_1\n"), ("b", "A_2.png\n")):
        (folder / "lists" / name).mkdir(parents=True)
        (folder / "lists" / name / "train.txt").write_text(listed)
    for part in ("images", "masks"):
        (folder / "pairs" / part).mkdir(parents=True)
    for number in range(8):
        name = f"{'AB'[number % 2]}_{number}.png"
        mask = np.zeros((40, 50), np.uint8)
        mask[5:20, 5:30], mask[22:30, 5:30], mask[5:20, 31:40] = 1, 2, 2
        Image.fromarray(mask * 100).save(folder / "pairs/images" / name)
        Image.fromarray(mask).save(folder / "pairs/masks" / name)


@pytest.mark.slow
@pytest.mark.parametrize("key", leaves())
def test_two_values_of_a_key_give_two_results(folder: Path, key: str) -> None:
    assert key in EFFECTS, f"{key} has no test of its effect"
    observe, first, second, needs = EFFECTS[key]
    if needs:
        make_sources(folder)
    if key == "train.start_from":
        build_unet(base_filters=4, depth=2, seed=5).save(folder / second)
    common = [
        *SMALL,
        *NETWORK,
        *QUICK,
        "train.phases=[{epochs: 1}]",
        "train.steps_per_epoch=1",
        *needs,
    ]
    results = []
    for number, value in enumerate((first, second)):
        apart = (
            []
            if key.startswith(("records.path", "train.run_dir"))
            else [f"records.path=records/{number}", f"train.run_dir=runs/{number}"]
        )
        results.append(observe(load(overrides=[*common, *apart, f"{key}={value}"])))
        repeated = observe(load(overrides=[*common, *apart, f"{key}={value}"]))
        assert repeated == results[-1], "the effect is not repeatable, so it proves nothing"
    assert results[0] != results[1]
