"""What a config asks of a run, made complete and checked before anything is computed."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from unet_keras import config as configuration
from unet_keras.config import Config
from unet_keras.errors import InputError
from unet_keras.model.geometry import check_tile
from unet_keras.pipeline.kinds import balanced_weights, class_names
from unet_keras.records.manifest import MANIFEST_NAME, Manifest, read_manifest
from unet_keras.records.origin import (
    changed_files,
    described_places,
    other_places,
    other_values,
)
from unet_keras.training.phases import Stretch, steps_to_cover
from unet_keras.training.run_folder import changed_versions, make_run_folder

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
# They say where a run is and what is watched, not what it computes.
FREE_KEYS = ("train.run_dir", "train.panel_epochs", "train.profile_steps")


def epoch_steps(config: Config, manifest: Manifest) -> int:
    """Return the batches of an epoch: as the config says, or as many as cover the images."""
    return config.train.steps_per_epoch or steps_to_cover(
        manifest.splits["train"].pixels, config.pipeline.crop, config.pipeline.batch_size
    )


def plan(config: Config, steps_per_epoch: int) -> list[Stretch]:
    """Fill in what the config's phases leave to its other sections.

    Args:
        config: The experiment.
        steps_per_epoch: Batches that cover the training images once.

    Raises:
        InputError: Phases that cannot be.
    """
    stretches = []
    for number, phase in enumerate(config.train.phases, start=1):
        augment = phase.augment or config.augment.mode
        epoch = steps_per_epoch * (2 if augment == "append" else 1)
        given = {
            name: getattr(config.loss if getattr(phase, name) is None else phase, name)
            for name in ("cross_entropy", "dice", "border_weight")
        }
        if given["cross_entropy"] + given["dice"] == 0:
            raise InputError(
                f"phase {number} of train.phases has cross_entropy=0 and dice=0: nothing would "
                "be learned in it"
            )
        steps = phase.steps or phase.epochs * epoch
        if phase.warmup_steps >= steps:
            raise InputError(
                f"phase {number} of train.phases has warmup_steps={phase.warmup_steps}, but only "
                f"{steps} steps: its rate would never be reached; give fewer, such as "
                f"train.phases.{number - 1}.warmup_steps={steps // 2}"
            )
        stretches.append(
            Stretch(
                name=f"phase {number} of {len(config.train.phases)}",
                steps=steps,
                steps_per_epoch=epoch,
                augment=augment,
                learning_rate=phase.learning_rate,
                schedule=phase.schedule,
                final_share=phase.final_share,
                warmup_steps=phase.warmup_steps,
                optimizer=phase.optimizer,
                patience=phase.patience,
                normalize=config.loss.normalize,
                distance=config.loss.distance,
                # Outlines as a class of their own belong to the cells.
                joined=config.targets.kind == "cells_and_borders",
                **given,
            )
        )
    weights = {(s.cross_entropy, s.dice, s.border_weight) for s in stretches}
    if config.train.monitor == "val_loss" and len(weights) > 1:
        raise InputError(
            "train.monitor=val_loss cannot compare epochs of phases that weigh the loss "
            f"differently (cross_entropy, dice, border_weight: {sorted(weights)}): give "
            "train.monitor=val_dice or val_iou"
        )
    return stretches


def check_config(config: Config) -> None:
    """Refuse what no records could mend, before any are made.

    Raises:
        InputError: Phases or crops that cannot be.
    """
    # Without a length, epochs are as long as the records will say: any warm-up may fit.
    plan(config, config.train.steps_per_epoch or sys.maxsize)
    check_crop(config)


def class_weights(config: Config, manifest: Manifest) -> tuple[float, ...]:
    """Return w_c as the config says: numbers, or what balances the training pixels' classes.

    Raises:
        InputError: Another number of them than of classes, or a class that was to be balanced does
            not occur, or its share is not known.
    """
    names = class_names(manifest, config.targets.kind)
    if config.loss.class_weights == "balanced":
        if config.targets.outline_pixels > 1:
            raise InputError(
                "loss.class_weights=balanced knows the share of outlines one pixel wide only, not "
                f"targets.outline_pixels={config.targets.outline_pixels}: give three numbers, for "
                "background, cell and border"
            )
        return balanced_weights(manifest, config.targets.kind)
    weights = tuple(config.loss.class_weights)
    if weights and len(weights) != len(names):
        raise InputError(
            f"loss.class_weights={list(weights)} must have {len(names)} numbers, for "
            f"{', '.join(names)} of {config.records.path}"
        )
    return weights


def check_records(manifest: Manifest, config: Config, stretches: Sequence[Stretch]) -> None:
    """Refuse records made with other targets than the config asks for, or that it does not fit.

    Raises:
        InputError: Names what differs.
    """
    if not manifest.splits["train"].images:
        raise InputError(
            f"{config.records.path} has no image in split train: nothing could be learned; make "
            "records with some (source.fractions, source.lists, or three folds and more)"
        )
    asked = {
        "targets.sigma_pixels": (config.targets.sigma_pixels, manifest.sigma_pixels),
        "targets.separate_touching": (config.targets.separate_touching, manifest.separate),
        "targets.overlap": (config.targets.overlap, manifest.overlaps.rule),
    }
    for key, (wanted, made) in asked.items():
        if wanted != made:
            raise InputError(
                f"{config.records.path} was made with {key}={made}, but the config says {wanted}: "
                "run make_records with this config, or give another records.path"
            )
    if manifest.num_classes > 1 and config.targets.kind != "cells":
        logger.warning(
            "%s tells %d classes of cells apart, which targets.kind=%s learns as one: give "
            "targets.kind=cells to learn them",
            config.records.path, manifest.num_classes, config.targets.kind,
        )  # fmt: skip
    check_crop(config)
    class_weights(config, manifest)
    check_source(manifest, config)
    for stretch in stretches:
        if stretch.patience and not manifest.splits["val"].images:
            raise InputError(
                f"{config.records.path} has no validation images, so that no epoch is better than "
                f"another, but {stretch.name} has patience={stretch.patience}: give patience=0"
            )
        if stretch.border_weight > 0 and "border" not in manifest.maps:
            raise InputError(
                f"{config.records.path} has no border map, but {stretch.name} has border_weight="
                f"{stretch.border_weight}: make the records with records.maps=[border]"
            )
    if config.loss.distance > 0 and "distance" not in manifest.maps:
        raise InputError(
            f"{config.records.path} has no distance map, but loss.distance={config.loss.distance}:"
            " make the records with records.maps=[border,distance]"
        )


def check_source(manifest: Manifest, config: Config) -> None:
    """Refuse records of other folders than the config names, and tell what else differs.

    A run that was begun goes on, with the records that it was begun with.

    Raises:
        InputError: Names both folders.
    """
    records = Path(config.records.path)
    for key, (made, wanted) in other_places(records, manifest.configuration, config.source).items():
        if not _is_begun(config):
            mend = f", or source.{key}={made} if those are meant" if made else ""
            raise InputError(
                f"{records} holds records of {described_places(manifest.configuration)}, but the "
                f"config says source.{key}={wanted or repr(wanted)}: make them anew with "
                f"make_records and this config, or give another records.path{mend}"
            )
    # As JSON has it, where tuples are lists.
    asked = json.loads(json.dumps(asdict(config.source)))
    for key, (made, wanted) in other_values(manifest.configuration, asked).items():
        logger.warning(
            "%s was made with source.%s=%s, not %s as the config says: what is learned from is "
            "what the records hold",
            records, key, made, wanted,
        )  # fmt: skip
    changed = changed_files(records, config.source)
    if changed:
        logger.warning(
            "%s was made before this: %s; what is learned from is what the records hold, until "
            "make_records makes them anew",
            records, changed,
        )  # fmt: skip


def check_crop(config: Config) -> None:
    """Refuse crops that a network with valid convolutions cannot halve without a remainder.

    Raises:
        InputError: Names the nearest right sizes.
    """
    if config.model.padding == "valid":
        for side in config.pipeline.crop:
            try:
                check_tile(side, config.model.depth)
            except ValueError as error:
                raise InputError(f"pipeline.crop={config.pipeline.crop}: {error}") from None


def demand_own_config(run: Path, config: Config) -> None:
    """Refuse a run's folder that another config began.

    Raises:
        InputError: Names what differs.
    """
    different = _differences(run, config)
    if different:
        raise InputError(
            f"{run} belongs to another config ({'; '.join(different)}): give another "
            f"train.run_dir, with train.start_from={run} to go on from its weights, or remove the "
            "folder"
        )


def _differences(run: Path, config: Config) -> list[str]:
    return [
        line
        for line in configuration.differences(configuration.load(run / CONFIG_NAME), config)
        if not line.startswith(tuple(f"{key}:" for key in FREE_KEYS))
    ]


def _is_begun(config: Config) -> bool:
    run = Path(config.train.run_dir)
    return (run / CONFIG_NAME).exists() and not _differences(run, config)


def claim_run_folder(run: Path, config: Config, manifest: Manifest) -> None:
    """Make a new run's folder, or check that the folder is of this config and these records.

    Raises:
        InputError: Another config's run is there, one on other records, or something else.
    """
    if not (run / CONFIG_NAME).exists():
        make_run_folder(
            run,
            Path(config.records.path) / MANIFEST_NAME,
            lambda path: configuration.save(config, path),
        )
    demand_own_config(run, config)
    try:
        begun = replace(read_manifest(run), versions={}, configuration={})
    except InputError:
        raise InputError(
            f"{run / MANIFEST_NAME}, a copy of that of the records, is missing or damaged: copy it "
            f"from {config.records.path}, or give another train.run_dir"
        ) from None
    if begun != replace(manifest, versions={}, configuration={}):
        raise InputError(
            f"{config.records.path} is not what {run} was begun with (see its {MANIFEST_NAME}): "
            "restore the records, or give another train.run_dir"
        )
    for change in changed_versions(run):
        logger.warning("%s: %s", run, change)
