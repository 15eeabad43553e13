"""What averaging the probabilities of three networks adds, as `predict --ensemble` does it.

The networks are those of separation.py's folds (trained again where they are gone; two trainings
differ in the last digits): one choice with three seeds. Each image is segmented by networks that
have not seen its well, by each of them and by all together, over flips. Prints means over all 12
images as Markdown. `python benchmarks/ensemble.py SAMPLE [--choice "depth 2"]`
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from results_file import end_with_children
from samples import livecell_sample, where_livecell
from separation import CONFIG, FILE, FINALISTS, SEEDS, fold_trials
from trial_scores import score_with
from trials import ROOT, folder_of, run, write_split

from unet_keras import command

MEASURES = ("sa", "sa50", "dice")


def scores(choice: str, sample: Path) -> dict[str, list[dict[str, float]]]:
    """Each image's scores, by seed and of all together."""
    from unet_keras import config as configuration
    from unet_keras.evaluation.scoring import predictor_of
    from unet_keras.inference.averaging import over_models
    from unet_keras.model.saved import load_model

    readout, data = f"{FINALISTS[choice]}, TTA", where_livecell(sample)
    found: dict[str, list[dict[str, float]]] = {}
    by_seed = [fold_trials(choice, sample, seed).items() for seed in SEEDS]
    for fold in zip(*by_seed, strict=True):
        predictors = []
        for seed, (name, trial) in zip(SEEDS, fold, strict=True):
            each = run(trial, name, FILE, data, network=True)["scores"][readout]
            found.setdefault(f"seed {seed}", []).extend(each.values())
            config = configuration.load(ROOT / CONFIG, [*data, *trial.overrides])
            config = replace(
                config,
                records=replace(config.records, path=str(write_split(config, trial))),
                evaluate=replace(config.evaluate, tta=True),
            )
            predictors.append(
                predictor_of(load_model(folder_of(trial, name) / "model.keras"), config)
            )
        alone = replace(trial, readouts={readout: trial.readouts[readout]})
        each = score_with({True: over_models(predictors)}, config, alone)[readout]
        found.setdefault("all of them", []).extend(each.values())
    return found


def main() -> None:
    """Score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, help="images/ and annotations/")
    parser.add_argument(
        "--choice", choices=FINALISTS, default="borders of 2 pixels, cubic, pretrained"
    )
    end_with_children()
    command.run(parser, _command, resumes=True)


def _command(arguments: argparse.Namespace) -> None:
    print("| networks | SA | SA50 | Dice |\n|---|---|---|---|")
    for name, found in scores(arguments.choice, arguments.sample).items():
        means = (np.mean([each[key] for each in found]) for key in MEASURES)
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


if __name__ == "__main__":
    main()
