"""Command: score a trained network, or what any other tool predicted, on whole images.

`python -m unet_keras.evaluate RUN_DIR [key.path=value ...]`
`python -m unet_keras.evaluate RUN_DIR --tune`
`python -m unet_keras.evaluate RUN_A RUN_B`
`python -m unet_keras.evaluate --predictions DIR --truth RECORDS_OR_DIR`
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_keras.command import import_tensorflow, run
from unet_keras.errors import InputError

if TYPE_CHECKING:
    from unet_keras.config import Config
    from unet_keras.evaluation.masks import MaskFolder
    from unet_keras.evaluation.summary import Evaluation
    from unet_keras.evaluation.tuning import Objective
    from unet_keras.inference.loading import Run

logger = logging.getLogger(__name__)

# Scores are of cells whatever was learned; the report says how it came to them.
LEARNED: dict[str, dict[str, object]] = {
    "cells": {},
    "boundary": {
        "learned": "outlines; scored are the pieces between them as cells, but for the largest, "
        "which is taken for the background"
    },
    "cells_and_borders": {"learned": "cells and outlines; scored are both together, as cells"},
}


def main() -> None:
    """Parse the arguments and evaluate."""
    parser = argparse.ArgumentParser(
        prog="python -m unet_keras.evaluate",
        description="Score a run and write RUN_DIR/evaluation: metrics.json, report.html and "
        "table.md, in place of an earlier evaluation's. The test split, unless evaluate.split=val "
        "or train says otherwise. Two runs that were scored are compared image by image.",
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="RUN_DIR",
        help="one run to score, or two to compare; and key.path=value for values that replace "
        "the run's, such as evaluate.split=val or evaluate.membranes=true",
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="choose threshold, smallest area and seeds of a watershed on the validation split, "
        "write RUN_DIR/tuned.yaml",
    )
    parser.add_argument(
        "--tune-by",
        choices=("segmentation_accuracy", "dice"),
        help="what --tune makes as high as possible: mean segmentation accuracy, or dice, which "
        "the threshold alone decides (segmentation_accuracy)",
    )
    others = parser.add_argument_group("masks or label maps of any other tool")
    others.add_argument(
        "--predictions", metavar="DIR", help="PNG or TIFF files, named like the images"
    )
    others.add_argument(
        "--truth", metavar="DIR", help="a folder of records, or of masks or label maps"
    )
    others.add_argument(
        "--probabilities", action="store_true",
        help="take Dice, IoU and their curves from NAME_probability.tif beside the masks, at "
        "evaluate.threshold, instead of from the masks",
    )  # fmt: skip
    others.add_argument("--images", metavar="DIR", help="images for the pictures of the report")
    others.add_argument(
        "--kind",
        choices=("auto", "binary", "labels"),
        help="what values of predictions and masks mean (auto: one value a mask, several a "
        "label map)",
    )
    others.add_argument("--output", metavar="DIR", help="where to write (PREDICTIONS/evaluation)")
    run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    from unet_keras.evaluation.asking import demand_fitting

    overrides = [a for a in arguments.arguments if "=" in a and not Path(a).exists()]
    runs = [Path(a) for a in arguments.arguments if a not in overrides]
    demand_fitting(arguments, runs, overrides)
    if arguments.predictions:
        _score_predictions(arguments, overrides)
        return
    _demand_replaceable(runs[0], overrides, tune=arguments.tune)
    if len(runs) == 2:
        _compare(*runs)
    elif arguments.tune:
        _tune(runs[0], overrides, arguments.tune_by or "segmentation_accuracy")
    else:
        _score(runs[0], overrides)


def _demand_replaceable(run: Path, overrides: Sequence[str], *, tune: bool) -> None:
    """Refuse to replace what was decided by the training.

    Raises:
        InputError: Names the key.
    """
    from unet_keras.config import value_in

    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in ("evaluate", "records.path") and not key.startswith("evaluate."):
            raise InputError(
                f"{override} was decided when {run} was trained: what can be replaced here is "
                "evaluate.* and records.path"
            )
        if tune and value_in(override, "evaluate.split") not in (None, "val"):
            raise InputError(
                f"{override} does not go with --tune, which reads the validation split and no "
                "other: leave the split out"
            )


def _score(folder: Path, overrides: Sequence[str]) -> None:
    """Predict and score a split with a run's network."""
    import_tensorflow()
    from unet_keras.evaluation.tuning import tuned_overrides
    from unet_keras.inference.loading import open_run
    from unet_keras.records.placing import in_use

    opened = open_run(folder, [*tuned_overrides(folder), *overrides])
    with in_use(Path(opened.config.records.path)):
        _score_run(opened, overrides)


def _score_run(opened: "Run", overrides: Sequence[str]) -> None:
    from tqdm import tqdm

    from unet_keras.evaluation import publishing
    from unet_keras.evaluation.files import demand_writable
    from unet_keras.evaluation.scoring import predictor_of, score_split, tells_classes
    from unet_keras.inference.scored import scored_state
    from unet_keras.records.manifest import read_manifest

    folder, config = opened.folder, opened.config
    _check_trained(folder, config, config.evaluate.split, overrides)
    directory = folder / "evaluation"
    for place in (directory, folder / "tensorboard"):
        demand_writable(place)
    manifest = read_manifest(Path(config.records.path))
    scored = scored_state(
        config.evaluate,
        model=folder / "model.keras",
        manifest=manifest,
        kind=config.targets.kind,
    )
    with tqdm(unit="image", disable=not sys.stderr.isatty()) as bar:
        predictor = predictor_of(opened.model, config, manifest.image_dtype)
        evaluation = score_split(config, predictor, bar.update)
    results = {**evaluation.results(), "scored": scored}
    joined = {}
    if manifest.num_classes > 1:
        joined["classes"] = f"{manifest.num_classes}, scored together as cells"
        if tells_classes(config, manifest):
            joined["classes"] += "; the pixels of each one by itself under By class"
    details = {
        "run": folder,
        "split": config.evaluate.split,
        "records": config.records.path,
        "threshold": config.evaluate.threshold,
        "minimum_area": config.evaluate.minimum_area,
        "method": config.evaluate.method,
        **LEARNED[config.targets.kind],
        **joined,
        "tuned": (folder / "tuned.yaml").exists(),
    }
    _report(directory, results, evaluation.examples, f"Evaluation of {folder.name}", details)
    history = folder / "history.csv"
    epochs = len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.exists() else 0
    split = config.evaluate.split
    publishing.write_tensorboard(folder / "tensorboard", results, split=split, step=epochs)
    if split == "test":
        publishing.update_metadata(folder / "saved_model", results)


def _tune(folder: Path, overrides: Sequence[str], objective: "Objective") -> None:
    """Choose how instances are found on the validation split."""
    import_tensorflow()
    from tqdm import tqdm

    from unet_keras.evaluation.files import demand_writable
    from unet_keras.evaluation.scoring import predictor_of, rules_of
    from unet_keras.evaluation.tuning import SPLIT, given_values, tune, write_tuned
    from unet_keras.inference.loading import open_run
    from unet_keras.records.manifest import read_manifest
    from unet_keras.records.placing import in_use

    opened = open_run(folder, overrides)
    records = Path(opened.config.records.path)
    demand_writable(folder)
    with in_use(records), tqdm(unit="image", disable=not sys.stderr.isatty()) as bar:
        _check_trained(folder, opened.config, SPLIT, overrides)
        predictor = predictor_of(opened.model, opened.config, read_manifest(records).image_dtype)
        tuned = tune(
            records,
            predictor,
            kind=opened.config.targets.kind,
            rules=rules_of(opened.config.evaluate),
            objective=objective,
            progress=bar.update,
        )
    path = write_tuned(folder, tuned, given_values(overrides, opened.config.evaluate))
    logger.info("threshold                 %g", tuned.rules.threshold)
    logger.info("minimum area              %d pixels", tuned.rules.minimum_area)
    if tuned.rules.method == "watershed":
        logger.info("smoothing of seeds        %g", tuned.rules.seed_smoothing)
        logger.info("prominence of seeds       %g", tuned.rules.seed_prominence)
    logger.info(
        "%-25s %.3f on %d validation images, before %.3f",
        tuned.objective, tuned.score, tuned.images, tuned.before,
    )  # fmt: skip
    logger.info("written: %s", path)


def _check_trained(folder: Path, config: "Config", split: str, overrides: Sequence[str]) -> None:
    """Refuse records that are absent or remade since the run; look at those that were chosen."""
    from unet_keras import config as configuration
    from unet_keras.evaluation.trained import check_trained, demand_records

    demand_records(folder, Path(config.records.path))
    own = None
    if any(override.strip().startswith("records") for override in overrides):
        own = Path(configuration.load(folder / "config.yaml").records.path)
    check_trained(folder, Path(config.records.path), split, own)


def _compare(first: Path, second: Path) -> None:
    """Compare two scored runs."""
    from unet_keras.evaluation.comparison import compare_runs

    table, path = compare_runs(first, second)
    logger.info("%s\nwritten: %s and .json", table, path)


def _score_predictions(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Score masks or label maps of any other tool."""
    from unet_keras import config as configuration
    from unet_keras.evaluation.files import MEND, no_empty_folder
    from unet_keras.evaluation.masks import MaskFolder
    from unet_keras.records.placing import in_use

    config = configuration.load(None, overrides)
    kind = arguments.kind or "auto"
    predictions = MaskFolder(Path(arguments.predictions), kind, arguments.probabilities)
    directory = Path(arguments.output or predictions.path / "evaluation")
    kept = in_use(Path(arguments.truth))
    with no_empty_folder(directory, mend=f"give another --output, or {MEND}"), kept:
        evaluation, details = _scored_masks(predictions, arguments, config)
        title = f"Evaluation of {predictions.path.name}"
        _report(directory, evaluation.results(), evaluation.examples, title, details)


def _scored_masks(
    predictions: "MaskFolder", arguments: argparse.Namespace, config: "Config"
) -> "tuple[Evaluation, dict[str, object]]":
    """Score masks against records or other masks; return the scores and what they are of."""
    from tqdm import tqdm

    from unet_keras.evaluation.masks import MaskFolder, folder_truth, score_masks
    from unet_keras.evaluation.summary import Evaluation
    from unet_keras.records.manifest import MANIFEST_NAME
    from unet_keras.sources.base import counted

    settings, truth = config.evaluate, Path(arguments.truth)
    details: dict[str, object] = {"predictions": predictions.path, "truth": truth}
    separate = False
    if (truth / MANIFEST_NAME).is_file():
        if arguments.images:
            raise InputError(
                f"--images is for masks; the records {truth} hold theirs: leave it out"
            )
        import_tensorflow()
        from unet_keras.evaluation.scoring import manifest_with, read_records

        manifest = manifest_with(truth, settings.split)
        truths, separate = read_records(truth, manifest, settings.split), manifest.separate
        details["split"] = settings.split
    else:
        images = Path(arguments.images) if arguments.images else None
        pattern = config.source.group_pattern
        truths = folder_truth(
            MaskFolder(truth, predictions.kind), images=images, group_pattern=pattern
        )
    evaluation = Evaluation(threshold=settings.threshold, membranes=settings.membranes)
    with tqdm(unit="image", disable=not sys.stderr.isatty()) as bar:
        score_masks(truths, predictions, evaluation, separate=separate, progress=bar.update)
    left = predictions.unasked()
    if left and "split" not in details:  # which says that other images are left out
        logger.warning(
            "left out: %s in %s without a truth in %s, such as %s",
            counted(len(left), "prediction"), predictions.path, truth, left[0].name,
        )  # fmt: skip
    return evaluation, details


def _report(
    directory: Path,
    results: Mapping[str, Any],
    examples: Any,
    title: str,
    details: Mapping[str, object],
) -> None:
    """Write the report and say what is in it."""
    from unet_keras.evaluation.report import write_report

    write_report(directory, results, examples, title=title, details=details)
    scores = ["dice", "iou", "segmentation_accuracy", "segmentation_accuracy_50"]
    for name in scores:
        logger.info("%-25s %.3f", name, results["overall"][name])
    if results["membranes"] is not None:
        for name in ("v_rand", "v_info", "rand_error", "warping_error"):
            logger.info("%-25s %.5f", name, results["membranes"]["at_threshold"][name])
    logger.info("report: %s", directory / "report.html")


if __name__ == "__main__":
    main()
