"""What tells touching cells apart: targets, heads and ways to learn from few images, measured.

Two rounds on the dozen annotated images of LIVECell's sample, as many steps for each choice as fit
the same time of the processor (trials.py):

    screen   each choice once, 4 minutes on two cores, trained on 5 images and scored on 4 of other
             wells, one cell type among them that no training image shows; the 3 test images take
             no part
    folds    the best, with three seeds and four folds over all 12, grouped by well

Prints both as Markdown. What is in benchmarks/results/separation.json already is not done again,
so the script may be stopped at any time. `python benchmarks/separation.py SAMPLE [--only screen]`
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from results_file import RESULTS, end_with_children
from samples import images_of, livecell_sample, where_livecell
from trials import WELL, WORK, Trial, best_readout, mean_score, run

from unet_keras import command, grouped_folds
from unet_keras.errors import InputError
from unet_keras.sources.grouping import group_of

CONFIG = "configs/livecell_sample.yaml"
FILE = RESULTS / "separation.json"
CPU_SECONDS = 480.0  # 4 minutes on two cores
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

# The best of the screen, and the readout that did best there.
FINALISTS = {
    "borders of 2 pixels, cubic, pretrained": "watershed 3 0.1",
    "borders of 2 pixels, cubic": "watershed 3 0.1",
    "borders of 2 pixels, pretrained": "watershed 3 0.1",
    "borders of 2 pixels, depth 3": "watershed 3 0.1",
    "cells, separated, w0 = 10": "watershed 3 0.1",
}

SMOOTHINGS, PROMINENCES = (0, 1.5, 3), (0.05, 0.1, 0.2)
SCREENED = (
    "A172_Phase_C7_1_00d20h00m_4.tif", "A172_Phase_C7_1_01d12h00m_3.tif",
    "BT474_Phase_B3_2_02d12h00m_3.tif", "SKOV3_Phase_E4_1_00d00h00m_1.tif",
)  # fmt: skip


def readouts(choice: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The ways from probabilities to instances that fit what was learned."""
    found = {}
    if "targets.kind=cells" in choice:
        found["components"] = ("method=components",)
    for smoothing in SMOOTHINGS:
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


def print_screen(results: dict[str, dict]) -> None:
    """A row a choice: its best readout, plain and with TTA."""
    print("\n| choice | SA | SA50 | Dice | readout | with TTA | components | steps |")
    print("|---|---|---|---|---|---|---|---|")
    for choice, result in results.items():
        plain = {k: v for k, v in result["scores"].items() if not k.endswith("TTA")}
        name = best_readout({"scores": plain})
        averaged = best_readout(
            {"scores": {k: result["scores"][k] for k in result["scores"] if k not in plain}}
        )
        alone = f"{mean_score(result, 'components', 'sa'):.3f}" if "components" in plain else ""
        print(
            f"| {choice} | {mean_score(result, name, 'sa'):.3f} "
            f"| {mean_score(result, name, 'sa50'):.3f} | {mean_score(result, name, 'dice'):.3f} "
            f"| {name} | {mean_score(result, averaged, 'sa'):.3f} ({averaged[:-5]}) | {alone} "
            f"| {result['steps']} |",
            flush=True,
        )


def fold_trials(choice: str, sample: Path, seed: int) -> dict[str, Trial]:
    """The trainings of a choice on each three quarters of the wells, scored on the rest."""
    names = [name for split in images_of(sample).values() for name in split]
    fold_of = grouped_folds([group_of(name, WELL) for name in names], FOLDS)
    overrides = CHOICES[choice]
    return {
        f"folds/{choice}/seed {seed}/fold {fold}": Trial(
            CONFIG, overrides, tuple(names),
            tuple(n for n, f in zip(names, fold_of, strict=True) if f == fold),
            CPU_SECONDS, readouts(overrides), seed,
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


def print_folds(results: dict[str, list[dict]]) -> None:
    """A row a choice: mean over the images, and how far the seeds lie apart."""
    print("\n| choice | readout | SA | SA50 | Dice | seeds | spread of SA |")
    print("|---|---|---|---|---|---|---|")
    for choice, found in results.items():
        for suffix in ("", ", TTA"):
            readout = FINALISTS[choice] + suffix
            by_seed: dict[int, list[dict[str, float]]] = {}
            for each in found:
                scores = each["scores"][readout].values()
                by_seed.setdefault(each["definition"]["seed"], []).extend(scores)
            means = {
                key: [float(np.mean([s[key] for s in scores])) for scores in by_seed.values()]
                for key in ("sa", "sa50", "dice")
            }
            sa, sa50, dice = (np.mean(means[key]) for key in ("sa", "sa50", "dice"))
            spread = max(means["sa"]) - min(means["sa"])
            print(
                f"| {choice} | {readout} | {sa:.3f} | {sa50:.3f} | {dice:.3f} "
                f"| {len(by_seed)} | {spread:.3f} |",
                flush=True,
            )


def main() -> None:
    """Measure what is not known yet and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, help="images/ and annotations/")
    parser.add_argument("--only", choices=("screen", "folds"), help="one of the two rounds")
    parser.add_argument("--choice", nargs="+", choices=list(CHOICES), help="these only")
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1),
        help="so many of the three seeds",
    )  # fmt: skip
    end_with_children()
    command.run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    sample = arguments.sample
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.only != "folds":
        print_screen({c: screen(c, sample) for c in arguments.choice or CHOICES})
    if arguments.only != "screen":
        chosen = [c for c in arguments.choice or FINALISTS if c in FINALISTS]
        if not chosen:
            raise InputError(f"folds are for finalists: one of {', '.join(FINALISTS)}")
        for seeds in range(1, arguments.seeds + 1):
            print_folds({c: folds(c, sample, SEEDS[:seeds]) for c in chosen})


if __name__ == "__main__":
    main()
