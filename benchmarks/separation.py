"""What tells touching cells apart: targets, heads and ways to learn from few images, measured.

Two rounds on the dozen annotated images of LIVECell's sample, as many steps for each choice as fit
the same time of the processor (trials.py):

    screen   each choice once, 4 minutes on two cores, trained on 5 images and scored on 4 of other
             wells, one cell type among them that no training image shows; the 3 test images take
             no part
    folds    the best, with three seeds and four folds over all 12, grouped by well; among them the
             config as it is, for as long as it says

Prints both as Markdown. What is in benchmarks/results/separation.json already is not done again,
so the script may be stopped at any time. `python benchmarks/separation.py SAMPLE [--only screen]`
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results_file import RESULTS, end_with_children
from samples import images_of, livecell_sample, where_livecell
from trials import WELL, WORK, Trial, mean_score, run

from unet_keras import command, grouped_folds
from unet_keras.errors import InputError
from unet_keras.sources.grouping import group_of

CONFIG = "configs/livecell_sample.yaml"
FILE = RESULTS / "separation.json"
CPU_SECONDS = 480.0  # 4 minutes on two cores
CONFIG_CPU_SECONDS = 1236.3  # for the 2,600 steps of the config
FOLDS, SEEDS = 4, (0, 1, 2)

# What choices replace.
BASE = (
    "model.depth=4", "targets.outline_pixels=1", "evaluate.tta=false", "train.start_from=''",
    "augment.image_order=1",
)  # fmt: skip
CELLS = (*BASE, "targets.kind=cells")
TOUCHING = (*CELLS, "targets.separate_touching=false", "loss.border_weight=0")
BORDERS = (*BASE, "targets.kind=cells_and_borders")
FLAT = (*BORDERS, "model.depth=3")
WIDER = (*FLAT, "targets.outline_pixels=2")
SHARP = (*WIDER, "augment.image_order=3")
BEST = (*SHARP, "train.start_from=default")
DISTANCE = ("loss.distance=1", "records.maps=[border,distance]")

# Each choice is a config value of the same network and the same records.
CHOICES: dict[str, tuple[str, ...]] = {
    # targets and heads
    "cells": TOUCHING,
    "cells, separated": (*CELLS, "loss.border_weight=0"),
    "cells, separated, w0 = 5": (*CELLS, "loss.border_weight=5"),
    "cells, separated, w0 = 10": (*CELLS, "loss.border_weight=10"),
    "cells, distance": (*TOUCHING, *DISTANCE),
    "cells, separated, w0 = 10, distance": (*CELLS, "loss.border_weight=10", *DISTANCE),
    "borders": BORDERS,
    "borders, distance": (*BORDERS, *DISTANCE),
    "borders, depth 3": FLAT,
    "borders of 2 pixels, depth 3": WIDER,
    # learning from few images, upon "borders, depth 3"
    "grey values milder": (*FLAT, "augment.brightness=0.1", "augment.contrast=0.1"),
    "pretrained on synthetic cells": (*FLAT, "train.start_from=default"),
    # upon "borders of 2 pixels, depth 3": linear interpolation blurs what is learned from
    "borders of 2 pixels, pretrained": (*WIDER, "train.start_from=default"),
    "borders of 2 pixels, cubic": SHARP,
    # one thing changed in "borders of 2 pixels, cubic"
    "no deformation": (*SHARP, "augment.deviation_pixels=0"),
    "48 filters": (*SHARP, "model.base_filters=48"),
    "w0 = 0": (*SHARP, "loss.border_weight=0"),
    "group normalization": (*SHARP, "model.normalization=group"),
    "crops of 384": (*SHARP, "pipeline.crop=[384,384]", "pipeline.batch_size=4"),
    "depth 2": (*SHARP, "model.depth=2"),
    "no averaging": (*SHARP, "train.optimizer.average=0"),
    "no zoom": (*SHARP, "augment.zoom=[1,1]"),
    "no rotation": (*SHARP, "augment.rotation_degrees=0"),
    "deformation doubled": (*SHARP, "augment.deviation_pixels=20"),
    "full resolution, 16 filters": (*SHARP, "model.stride=1", "model.base_filters=16"),
    "no Dice loss": (*SHARP, "loss.dice=0"),
    "Dice loss doubled": (*SHARP, "loss.dice=2"),
    "Dice loss alone": (*SHARP, "loss.cross_entropy=0"),
    "borders of 3 pixels": (*SHARP, "targets.outline_pixels=3"),
    "borders weigh twice": (*SHARP, "loss.class_weights=[1,1,2]"),
    "distances, weight 0.2": (*SHARP, "loss.distance=0.2", "records.maps=[border,distance]"),
    "batches of 4": (*SHARP, "pipeline.batch_size=4"),
    "w0 = 10": (*SHARP, "loss.border_weight=10"),
    "borders of 2 pixels, cubic, pretrained": BEST,
    # upon that: what interpolation takes away is seen in plain crops, or is made up
    "the same, appended": (*BEST, "augment.mode=append"),
    "the same, noise and blur": (*BEST, "augment.noise=0.2", "augment.blur_pixels=1"),
}  # fmt: skip

# What the config says itself, for its own number of steps.
WHOLE = "the config as it is, 2,600 steps"

# The best of the screen, and the recipe of 2015 beside them; the readout that did best there.
FINALISTS = {
    WHOLE: "watershed 2 0.1",
    "borders of 2 pixels, cubic, pretrained": "watershed 3 0.1",
    "depth 2": "watershed 3 0.1",
    "batches of 4": "watershed 3 0.1",
    "borders of 2 pixels, cubic": "watershed 3 0.1",
    "cells, separated, w0 = 10": "watershed 3 0.1",
}

SMOOTHINGS, PROMINENCES = (0, 1.5, 3), (0.05, 0.1, 0.2)
SCREENED = (
    "A172_Phase_C7_1_00d20h00m_4.tif", "A172_Phase_C7_1_01d12h00m_3.tif",
    "BT474_Phase_B3_2_02d12h00m_3.tif", "SKOV3_Phase_E4_1_00d00h00m_1.tif",
)  # fmt: skip


def readouts(
    choice: tuple[str, ...], smoothings: Sequence[float] = SMOOTHINGS
) -> dict[str, tuple[str, ...]]:
    """The ways from probabilities to instances that fit what was learned."""
    found = {}
    if "targets.kind=cells" in choice:
        found["components"] = ("method=components",)
    for smoothing in smoothings:
        for prominence in PROMINENCES:
            found[f"watershed {smoothing} {prominence}"] = (
                "method=watershed", f"seed_smoothing={smoothing}", f"seed_prominence={prominence}",
            )  # fmt: skip
    return found | {f"{name}, TTA": (*rules, "tta=true") for name, rules in found.items()}


def screen(choice: str, sample: Path) -> dict:
    """Train a choice once and score it on wells that it did not see."""
    names = images_of(sample)
    overrides = CHOICES[choice]
    trial = Trial(
        CONFIG, overrides, tuple(names["train"] + names["val"]), SCREENED, CPU_SECONDS,
        readouts(overrides),
    )  # fmt: skip
    return run(trial, f"screen/{choice}", FILE, where_livecell(sample))


def best_scores(result: Mapping[str, Any], *, averaged: bool) -> tuple[str, dict[str, float]]:
    """The readout with the highest segmentation accuracy, with TTA or without, and its means."""
    names = [name for name in result["scores"] if name.endswith(", TTA") == averaged]
    name = max(names, key=lambda each: mean_score(result, each, "sa"))
    return name, {score: mean_score(result, name, score) for score in ("sa", "sa50", "dice")}


def screen_table(results: Mapping[str, dict]) -> str:
    """Markdown, a row a choice: its best readout, plain and with TTA."""
    lines = [
        "| choice | SA | SA50 | Dice | readout | SA with TTA | SA50 | Dice | readout | steps |",
        "|---" * 10 + "|",
    ]
    for choice, result in results.items():
        cells = [choice]
        for averaged in (False, True):
            name, scores = best_scores(result, averaged=averaged)
            cells += [f"{score:.3f}" for score in scores.values()]
            cells.append(name.removesuffix(", TTA"))
        lines.append(f"| {' | '.join([*cells, str(result['steps'])])} |")
    return "\n".join(lines)


def fold_trials(choice: str, sample: Path, seed: int) -> dict[str, Trial]:
    """The trainings of a choice on each three quarters of the wells, scored on the rest."""
    names = [name for split in images_of(sample).values() for name in split]
    fold_of = grouped_folds([group_of(name, WELL) for name in names], FOLDS)
    overrides = CHOICES.get(choice, BEST)
    cpu_seconds = CONFIG_CPU_SECONDS if choice == WHOLE else CPU_SECONDS
    smoothings = (*SMOOTHINGS, 2) if choice == WHOLE else SMOOTHINGS
    return {
        f"folds/{choice}/seed {seed}/fold {fold}": Trial(
            CONFIG, overrides, tuple(names),
            tuple(n for n, f in zip(names, fold_of, strict=True) if f == fold),
            cpu_seconds, readouts(overrides, smoothings), seed,
        )
        for fold in range(FOLDS)
    }  # fmt: skip


def folds(choice: str, sample: Path, seeds: Sequence[int]) -> list[dict]:
    """Train and score a choice in all folds."""
    return [
        run(trial, name, FILE, where_livecell(sample))
        for seed in seeds
        for name, trial in fold_trials(choice, sample, seed).items()
    ]


def folds_table(results: Mapping[str, Sequence[dict]]) -> str:
    """Markdown, two rows a choice: means over all images and over those that were not screened.

    The last column says how far the seeds lie apart. The last row takes each score of each image
    from the choice that has the highest, which no single one can: what the images allow.
    """
    heads = ["choice", "readout", "SA", "SA50", "Dice"]
    heads += [f"{name}, not screened" for name in heads[2:]] + ["seeds", "spread of SA"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    everything = []
    for choice, found in results.items():
        for suffix in ("", ", TTA"):
            readout = FINALISTS[choice] + suffix
            by_image = _scores_by_image(found, readout)
            everything.append(by_image)
            by_seed = [
                np.mean([
                    scores["sa"]
                    for each in found
                    if each["definition"]["seed"] == seed
                    for scores in each["scores"][readout].values()
                ])
                for seed in sorted({each["definition"]["seed"] for each in found})
            ]  # fmt: skip
            spread = f"{np.ptp(by_seed):.3f}" if len(by_seed) > 1 else ""
            cells = [choice, readout, *_means(by_image), str(len(by_seed)), spread]
            lines.append(f"| {' | '.join(cells)} |")
    if len(results) > 1:
        best = {
            name: {key: max(each[name][key] for each in everything) for key in scores}
            for name, scores in everything[0].items()
        }
        cells = ["for each image the best of these", "", *_means(best), "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores_by_image(found: Sequence[dict], readout: str) -> dict[str, dict[str, float]]:
    """Each image's scores, means over seeds."""
    gathered: dict[str, list[dict[str, float]]] = {}
    for each in found:
        for name, scores in each["scores"][readout].items():
            gathered.setdefault(name, []).append(scores)
    return {
        name: {key: float(np.mean([one[key] for one in some])) for key in ("sa", "sa50", "dice")}
        for name, some in gathered.items()
    }


def _means(by_image: Mapping[str, Mapping[str, float]]) -> list[str]:
    """SA, SA50 and Dice over all images, then over those that were not screened."""
    return [
        f"{np.mean([scores[key] for name, scores in by_image.items() if name not in left_out]):.3f}"
        for left_out in ((), SCREENED)
        for key in ("sa", "sa50", "dice")
    ]


def main() -> None:
    """Measure what is not known yet and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, help="images/ and annotations/")
    parser.add_argument("--only", choices=("screen", "folds"), help="one of the two rounds")
    parser.add_argument("--choice", nargs="+", choices=[*CHOICES, WHOLE], help="these only")
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1),
        help="so many of the three seeds",
    )  # fmt: skip
    end_with_children()
    command.run(parser, _command, resumes=True)


def _command(arguments: argparse.Namespace) -> None:
    sample = arguments.sample
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.only != "folds":
        chosen = [c for c in arguments.choice or CHOICES if c in CHOICES]
        found = {choice: screen(choice, sample) for choice in chosen}
        print(f"\n{screen_table(found)}", flush=True)
    if arguments.only != "screen":
        chosen = [c for c in arguments.choice or FINALISTS if c in FINALISTS]
        if not chosen:
            raise InputError(f"folds are for finalists: one of {', '.join(FINALISTS)}")
        for seeds in range(1, arguments.seeds + 1):
            measured = {choice: folds(choice, sample, SEEDS[:seeds]) for choice in chosen}
            print(f"\n{folds_table(measured)}", flush=True)


if __name__ == "__main__":
    main()
