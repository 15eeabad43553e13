"""Claim: five images with masks refine the network that ships in under ten minutes on two cores.

Five images of LIVECell's sample become folders of images and label maps, as a user would bring
them; `train configs/fine_tune.yaml` learns from four, and one tells which epoch is the best. Before
and after it, `predict` segments images of wells that none of the five shows, and `evaluate
--predictions` scores what it wrote.

Prints both as Markdown, and how long the training took; runs/fine_tuning/before_after.png shows an
image. `python benchmarks/fine_tuning.py SAMPLE`
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from results_file import end_with_children
from samples import (
    LIVECELL_SCORED,
    livecell_names,
    livecell_sample,
    some_of,
    where_livecell,
    write_pairs,
)
from trials import ROOT, WORK, Trial, write_split

from unet_keras import command

FOLDER = ROOT / "runs" / "fine_tuning"
CONFIG = "configs/fine_tune.yaml"
PAIRS = 5
SCORES = {"Dice": "dice", "SA": "segmentation_accuracy", "SA50": "segmentation_accuracy_50"}


def start(*arguments: str) -> None:
    """Run a command of the package."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=FOLDER,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def prepare(sample: Path) -> None:
    """Write the five pairs, and the images to be scored with their records."""
    from unet_keras import config as configuration

    names = some_of(livecell_names(sample), PAIRS, seed=0)
    print("trained on:", *sorted(names), sep="\n  ")
    config = configuration.load(ROOT / "configs/livecell_sample.yaml", where_livecell(sample))
    WORK.mkdir(parents=True, exist_ok=True)
    trial = Trial("", (), (*names, *LIVECELL_SCORED), LIVECELL_SCORED, 0, {})
    records = write_split(config, trial)
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_pairs(records, "train", FOLDER / "pairs")
    write_pairs(records, "test", FOLDER / "scored")
    (FOLDER / "truth").symlink_to(records)


def scores(name: str, model: str) -> str:
    """Segment and score with a network; a row of the table."""
    start("unet_keras.predict", model, "scored/images", "--output", name, "--write", "labels")
    start(
        "unet_keras.evaluate", "--predictions", name, "--truth", "truth", "--kind", "labels"
    )  # fmt: skip
    overall = json.loads((FOLDER / name / "evaluation" / "metrics.json").read_text())["overall"]
    values = " | ".join(f"{overall[key]:.2f}" for key in SCORES.values())
    return f"| {name} | {values} |"


def draw(file: str) -> None:
    """Put what was found before and after side by side."""
    from unet_keras import drawing

    stem = Path(file).stem
    image = tifffile.imread(FOLDER / "scored" / "images" / f"{stem}.tif")
    row, titles = [], []
    for name in ("before", "after"):
        labels = tifffile.imread(FOLDER / name / f"{stem}_labels.tif")
        row.append(drawing.overlay(image, labels))
        titles.append(f"{name}: {np.unique(labels[labels > 0]).size} cells")
    drawing.write_png(FOLDER / "before_after.png", drawing.panel([row], titles=titles))


def main() -> None:
    """Refine, and score before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, help="images/ and annotations/")
    end_with_children()
    command.run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    prepare(arguments.sample)
    rows, begun = [scores("before", "default")], time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pairs = ["source.images=pairs/images", "source.annotations=pairs/labels"]
    start("unet_keras.make_records", str(ROOT / CONFIG), *pairs)
    start("unet_keras.train", str(ROOT / CONFIG), *pairs)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, key) - getattr(before, key) for key in ("ru_utime", "ru_stime"))
    rows.append(scores("after", "runs/fine_tune"))
    print(f"\n| network that ships | {' | '.join(SCORES)} |\n{'|---' * (len(SCORES) + 1)}|")
    print(*rows, sep="\n")
    draw(LIVECELL_SCORED[-1])
    print(f"\n{seconds:.0f} s, {cpu:.0f} s of the processor; {FOLDER / 'before_after.png'}")
    print(f"ratio ten_minutes_vs_fine_tuning {600 / seconds:.2f}")


if __name__ == "__main__":
    main()
