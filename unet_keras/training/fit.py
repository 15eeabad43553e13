"""From a config and records to a trained model in a run folder; the same call resumes it."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from unet_keras.config import Config
from unet_keras.model.unet import build_unet, geometry_of
from unet_keras.pipeline.augment import device_name
from unet_keras.pipeline.kinds import num_outputs
from unet_keras.records.manifest import Manifest, read_manifest
from unet_keras.records.placing import in_use
from unet_keras.training.board import Board
from unet_keras.training.callbacks import Checkpoints, LearningRate, Progress
from unet_keras.training.computation import (
    FreeInput,
    compile_model,
    describe_devices,
    make_strategy,
    set_up,
)
from unet_keras.training.console import Console
from unet_keras.training.data import training_data, validation_data, warn_of_cache
from unet_keras.training.events import cut_events
from unet_keras.training.guard import LossGuard, explained
from unet_keras.training.naming import batch_images
from unet_keras.training.optimizers import AveragedWeights, build_optimizer
from unet_keras.training.panels import Panels
from unet_keras.training.phases import Stretch, reset_optimizer
from unet_keras.training.planning import (
    CONFIG_NAME,
    check_records,
    claim_run_folder,
    demand_own_config,
    epoch_steps,
    plan,
)
from unet_keras.training.rate_finder import draw_curve, find_rate
from unet_keras.training.resume import complete, newest_state, restore
from unet_keras.training.run_folder import sole_user
from unet_keras.training.scalars import Scalars, describe_run
from unet_keras.training.speed import Profile, Speed
from unet_keras.training.start import read_weights, take_weights
from unet_keras.training.state import RunState

logger = logging.getLogger(__name__)

PANEL_IMAGES = 4


def train(config: Config) -> Path:
    """Train a network as the config says, or go on where an earlier call was stopped.

    Args:
        config: The experiment; its records must exist.

    Returns:
        The run folder, which then holds `model.keras`, `history.csv`, `config.yaml`,
        `versions.json`, `checkpoints/` and `tensorboard/`.

    Raises:
        InputError: No records, the run folder belongs to another config or process, or what
            `guard` explains: a loss that is no number, damaged records, a full disk.
    """
    records, run = Path(config.records.path), Path(config.train.run_dir)
    with in_use(records):
        manifest = read_manifest(records)
        stretches = plan(config, epoch_steps(config, manifest))
        check_records(manifest, config, stretches)
        strategy = strategy_of(config, manifest)
        device_name(config.augment.device)  # an error here, before the folder is claimed
        if config.train.start_from and newest_state(run) is None:
            # Before the folder is claimed, so that it is not left to another start.
            start_weights(build_network(config, manifest), config, tell=False)
        claim_run_folder(run, config, manifest)
        warn_of_cache(config)
        with sole_user(run):
            state = newest_state(run) or RunState()
            if state.phase == len(stretches):
                complete(run, state, every=config.train.checkpoint_epochs)
                logger.info("%s is finished: %d epochs are done", run, state.epoch)
                return run
            with explained(run, records), strategy.scope():
                _Session(config, manifest, run, stretches, state).fit()
        if config.train.monitor == "last" or not manifest.splits["val"].images:
            logger.info("the model is that of the last epoch, %d", state.best_epoch)
        else:
            logger.info("best %s in epoch %d", config.train.monitor, state.best_epoch)
        return run


def is_finished(config: Config) -> bool:
    """Tell whether the config's run is at its end; no records are needed for that.

    Raises:
        InputError: The folder is another config's, or its newest checkpoint is damaged.
    """
    run = Path(config.train.run_dir)
    if not (run / CONFIG_NAME).exists():
        return False
    demand_own_config(run, config)
    state = newest_state(run)
    return state is not None and state.phase == len(config.train.phases)


@dataclass
class _Session:
    """One process's share of a run, from a checkpoint or from nothing."""

    config: Config
    manifest: Manifest
    run: Path
    stretches: Sequence[Stretch]
    state: RunState

    def fit(self) -> None:
        """Train what is left of the phases."""
        set_up_computation(self.config, self.state.precision)
        self.state.precision = keras.config.dtype_policy().name
        model = compiled_model(self.config, self.manifest, self._stretch)
        if self.state.epoch == 0:
            start_weights(model, self.config)
        else:
            logger.info("%s goes on after epoch %d", self.run, self.state.epoch)
            restore(self.run, self.state, model)
            complete(self.run, self.state, every=self.config.train.checkpoint_epochs)
        cut_events(self.run / "tensorboard", self.state.epoch)
        if self.state.epoch == 0:
            describe_run(Board(self.run / "tensorboard"), asdict(self.config), self.run)
        describe_devices()
        margin, compiled = geometry_of(model).margin_pixels, self._stretch
        while self.state.phase < len(self.stretches):
            stretch = self._stretch
            if self.state.phase_step == 0 and stretch.optimizer == "reset":
                reset_optimizer(model.optimizer)
            if stretch.factors != compiled.factors:  # it takes a while
                compile_model(model, model.optimizer, stretch)
                compiled = stretch
            self._fit_epochs(model, margin)

    @property
    def _stretch(self) -> Stretch:
        return self.stretches[self.state.phase]

    def _fit_epochs(self, model: keras.Model, margin: int) -> None:
        """Train the epochs of equal length that come next; the phase may end before them."""
        state, stretch = self.state, self._stretch
        epochs, steps = stretch.next_epochs(state.phase_step)
        logger.info("%s: to epoch %d, %d steps each", stretch.name, state.epoch + epochs, steps)
        validation = None
        if self.manifest.splits["val"].images:
            validation = validation_data(
                self.config, stretch, margin=margin,
                devices=tf.distribute.get_strategy().num_replicas_in_sync,
            )  # fmt: skip
        callbacks = make_callbacks(self.config, self.run, state, self.stretches, validation)
        try:
            model.fit(
                training_data(
                    self.config, stretch, start_step=state.step, phase_step=state.phase_step,
                    margin=margin,
                ),
                initial_epoch=state.epoch,
                epochs=state.epoch + epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                callbacks=callbacks,
                shuffle=False,  # the data set is shuffled already
                verbose=0,  # `Console` tells it in one line
            )  # fmt: skip
        finally:
            for callback in callbacks:
                if isinstance(callback, Console):
                    callback.close_bar()


def find_learning_rate(config: Config) -> tuple[float, Path]:
    """Suggest a learning rate for the config's first phase; see `rate_finder`.

    Args:
        config: The experiment; its records must exist.

    Returns:
        The rate, above 0, and a picture of the test beside the run folder, which is not touched.

    Raises:
        InputError: As `train` does.
    """
    records, run = Path(config.records.path), Path(config.train.run_dir)
    with in_use(records):
        manifest = read_manifest(records)
        stretches = plan(config, epoch_steps(config, manifest))
        check_records(manifest, config, stretches)
        set_up_computation(config)
        with explained(run.parent, records), strategy_of(config, manifest).scope():
            model = compiled_model(config, manifest, stretches[0])
            start_weights(model, config)
            margin = geometry_of(model).margin_pixels
            data = training_data(config, stretches[0], start_step=0, margin=margin)
            curve = find_rate(model, data)
    picture = run.with_name(f"{run.name}-learning-rate.png")
    draw_curve(curve, picture)
    return curve.suggestion, picture


def strategy_of(config: Config, manifest: Manifest) -> tf.distribute.Strategy:
    """Return what spreads the config's batches over devices; see `computation.make_strategy`."""
    return make_strategy(
        config.train.distribute,
        batch_size=config.pipeline.batch_size,
        validation_images=manifest.splits["val"].images,
    )


def set_up_computation(config: Config, begun_in: str = "") -> None:
    """Seed the process and set its precision and determinism; see `computation.set_up`."""
    precision, deterministic = config.train.precision, config.train.deterministic
    set_up(seed=config.seed, precision=precision, deterministic=deterministic, begun_in=begun_in)


def compiled_model(config: Config, manifest: Manifest, stretch: Stretch) -> keras.Model:
    """Build the config's network for these records and compile it for a phase.

    Args:
        config: The experiment.
        manifest: Of its records: channels, classes, mean and scale of the grey values.
        stretch: The phase that comes first.

    Returns:
        (B, H, W, C) -> logits (B, H', W', K + T).
    """
    model = build_network(config, manifest)
    optimizer = build_optimizer(stretch.learning_rate, **asdict(config.train.optimizer))
    compile_model(model, optimizer, stretch)
    return model


def build_network(config: Config, manifest: Manifest) -> keras.Model:
    """Build the config's network for these records, with random weights.

    Returns:
        (B, H, W, C) -> logits (B, H', W', K + T), as `build_unet` gives it.
    """
    return build_unet(
        input_channels=manifest.channels,
        num_classes=num_outputs(manifest, config.targets.kind, config.model.output),
        base_filters=config.model.base_filters,
        depth=config.model.depth,
        stride=config.model.stride,
        padding=config.model.padding,
        normalization=config.model.normalization,
        dropout=config.model.dropout,
        regression_maps=len(config.loss.maps),
        mean=manifest.mean,
        scale=manifest.scale,
        seed=config.seed,
    )


def start_weights(model: keras.Model, config: Config, *, tell: bool = True) -> None:
    """Give a new network the weights of `train.start_from`, if there is one; log it to `tell`."""
    if config.train.start_from:
        origin = Path(config.train.start_from)
        left = take_weights(model, read_weights(origin), origin)
        if tell:
            for name in left:
                logger.info("%s has other outputs: %s starts from random weights", origin, name)
            logger.info("starts from %s", origin)


def make_callbacks(
    config: Config,
    run: Path,
    state: RunState,
    stretches: Sequence[Stretch],
    validation: tf.data.Dataset | None,
) -> list[keras.callbacks.Callback]:
    """Return what keeps the run's folder and shows its course; see `callbacks`.

    Args:
        config: The experiment.
        run: The run's folder.
        state: Where the run is.
        stretches: The run's phases.
        validation: Batches of x (B, H, W, C) and packed y (B, H', W', 2+T), if there are any.
    """
    stretch, begun = stretches[state.phase], state.step - state.phase_step

    def images_of(phase_step: int) -> tuple[str, ...]:
        position = stretch.data_position(begun + phase_step, phase_step)
        return batch_images(
            config.records.path,
            batch_size=config.pipeline.batch_size,
            seed=config.seed,
            position=position,
        )

    # Of plain and transformed batches in turn, the first is plain; the pictures show the second.
    kept_step = 1 if stretch.augment == "append" else 0
    board, speed = Board(run / "tensorboard"), Speed(config.pipeline.batch_size, kept_step)
    judged = validation is not None and config.train.monitor != "last"
    monitor = config.train.monitor if judged else None
    manifest = read_manifest(config.records.path)
    classes = num_outputs(manifest, config.targets.kind, config.model.output)
    callbacks = [
        *([FreeInput()] if config.train.deterministic else []),
        *([AveragedWeights()] if config.train.optimizer.average else []),
        LearningRate(state, stretches),
        LossGuard(run, state, images_of),
        speed,
        Progress(state, stretches, monitor),
        Scalars(board, state, speed),
    ]
    if config.train.panel_epochs:
        callbacks.append(
            Panels(
                board, state, stretches, speed, _panel_batch(validation),
                every=config.train.panel_epochs, classes=classes,
            )
        )  # fmt: skip
    if config.train.profile_steps:
        callbacks.append(Profile(board.folder, config.train.profile_steps))
    return [
        *callbacks,
        Checkpoints(run, state, every=config.train.checkpoint_epochs),
        Console(state, stretches, judged=judged, bar=sys.stderr.isatty()),
    ]


def _panel_batch(validation: tf.data.Dataset | None) -> Any:
    """The images that all panels show."""
    if validation is None:
        return None
    return next(iter(validation.unbatch().batch(PANEL_IMAGES).take(1)))
