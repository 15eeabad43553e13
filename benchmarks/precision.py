"""Claim: training in half precision ends inside the spread of float32's Dice.

Synthetic cells as in the demo, but smaller, and a network of 8 filters, trained in each precision
from three seeds by the real `train` and scored as `evaluate` does. Runs lie in `demo/precision`;
what is finished there is not computed again, so a benchmark that was broken off goes on. float16 is
made for GPUs: on a CPU it takes ten times as long. `python benchmarks/precision.py [--epochs 6]`

    ratio precision_float16_within_spread   1 if the mean Dice lies between float32's least and
    ratio precision_bfloat16_within_spread  greatest, else less: 1 - distance / width of the spread
"""

import argparse
import json
import os
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SEEDS = (0, 1, 2)
STEPS = 20  # an epoch


def dice_of(precision: str, seed: int, folder: Path, *, epochs: int) -> float:
    """Train and evaluate one run, unless that was done before; return the Dice on test images."""
    run = folder / f"{precision}-{seed}-{epochs}"
    metrics = run / "dice.json"
    if not metrics.exists():
        from unet_keras import config as configuration
        from unet_keras.evaluation.scoring import predictor_of, score_split
        from unet_keras.inference.loading import open_run
        from unet_keras.records.conversion import convert
        from unet_keras.training.fit import train

        values = [
            "source.kind=synthetic", "source.counts=[12, 2, 6]", "source.size=[192, 256]",
            f"records.path={folder / 'records'}", f"train.run_dir={run}", "train.panel_epochs=0",
            "pipeline.crop=[96, 96]", "pipeline.batch_size=4", "model.base_filters=8",
            "model.depth=2", f"train.precision={precision}", f"train.steps_per_epoch={STEPS}",
            f"train.phases=[{{epochs: {epochs}, learning_rate: 5e-3}}]",
        ]  # fmt: skip
        # The images are of the same seed in all runs.
        convert(configuration.load(overrides=[*values, "seed=0"]))
        train(configuration.load(overrides=[*values, f"seed={seed}"]))
        opened = open_run(run)
        evaluation = score_split(opened.config, predictor_of(opened.model, opened.config))
        metrics.write_text(json.dumps(evaluation.results()["overall"]["dice"]))
    return float(json.loads(metrics.read_text()))


def within(values: list[float], reference: list[float]) -> float:
    """Return 1 for a mean inside the reference's spread, less the farther it lies outside."""
    low, high, mean = min(reference), max(reference), fmean(values)
    return 1.0 - max(low - mean, mean - high, 0.0) / (high - low)


def main() -> None:
    """Train in each precision with several seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo" / "precision")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for precision, seed in product(PRECISIONS, SEEDS):
        dice = dice_of(precision, seed, arguments.folder.resolve(), epochs=arguments.epochs)
        found[precision].append(dice)
        print(f"{precision}, seed {seed}: Dice {dice:.4f}", file=sys.stderr, flush=True)
    print("| precision | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | mean | spread |")
    print("|---|" + "---|" * (len(SEEDS) + 2))
    for precision, values in found.items():
        cells = [*values, fmean(values), max(values) - min(values)]
        print(f"| {precision} | " + " | ".join(f"{value:.4f}" for value in cells) + " |")
    for precision in PRECISIONS[1:]:
        name = precision.removeprefix("mixed_")
        ratio = within(found[precision], found["float32"])
        print(f"ratio precision_{name}_within_spread {ratio:.3f}")


if __name__ == "__main__":
    main()
