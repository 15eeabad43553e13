"""Ways to see what a config does: each returns something that another config would change."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_keras.config import Config
from unet_keras.evaluation import scoring
from unet_keras.inference.loading import Predictor, Run, describe_run
from unet_keras.pipeline import augment, dataset
from unet_keras.records import conversion
from unet_keras.records.manifest import read_manifest
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
        patch.setattr(
            scoring,
            "open_predictor",
            lambda path, **given: Predictor(path, 1, None, {}, lambda i, _: answer(str(path), i)),
        )
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
