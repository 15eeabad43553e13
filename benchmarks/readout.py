"""How smoothing and prominence of seeds were chosen for configs/livecell_sample.yaml.

The networks are those of separation.py's folds (trained again where they are gone; two trainings
differ in the last digits), so that each image is segmented by one that has not seen its well; the
sample's test images take no part. Prints mean segmentation accuracy as Markdown,
and what the best pair for each image would give: how far a choice that suits all cell types is from
choices made for one, which `evaluate --tune` makes. `python benchmarks/readout.py SAMPLE`
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from results_file import end_with_children
from samples import images_of, livecell_sample, where_livecell
from separation import CONFIG, FILE, fold_trials
from trials import ROOT, folder_of, run

from unet_keras import command

CHOICE = "borders of 2 pixels, cubic, pretrained"
SMOOTHINGS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
PROMINENCES = (0.05, 0.1, 0.15, 0.2)


def accuracies(sample: Path) -> np.ndarray:
    """Segmentation accuracy by image, smoothing and prominence."""
    from unet_keras import config as configuration
    from unet_keras.evaluation.instances import segmentation_accuracy
    from unet_keras.evaluation.scoring import predictor_of, rules_of
    from unet_keras.model.saved import load_model
    from unet_keras.sources.coco import read_coco

    references = {
        each.file_name: each for each in read_coco(sample / "images", sample / "annotations")[0]
    }
    data, found = where_livecell(sample), []
    for name, trial in fold_trials(CHOICE, sample, seed=0).items():
        run(trial, name, FILE, data, network=True)
        config = configuration.load(ROOT / CONFIG, [*data, *trial.overrides, "evaluate.tta=true"])
        predict = predictor_of(load_model(folder_of(trial, name) / "model.keras"), config)
        for file_name in set(trial.scored) - set(images_of(sample)["test"]):
            image = references[file_name].load()
            cells = predict(image.image)[..., 0]
            for smoothing in SMOOTHINGS:
                for prominence in PROMINENCES:
                    settings = replace(
                        config.evaluate, seed_smoothing=smoothing, seed_prominence=prominence
                    )
                    labels = rules_of(settings, separate=False).label(cells)
                    found.append(segmentation_accuracy(image.outlines, labels))
    scores = [each["segmentation_accuracy"] for each in found]
    return np.reshape(scores, (-1, len(SMOOTHINGS), len(PROMINENCES)))


def main() -> None:
    """Score all pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, help="images/ and annotations/")
    end_with_children()
    command.run(parser, _command, resumes=True)


def _command(arguments: argparse.Namespace) -> None:
    scores = accuracies(arguments.sample)
    heads = " | ".join(f"prominence {value:g}" for value in PROMINENCES)
    print(f"| smoothing, pixels | {heads} |\n{'|---' * (len(PROMINENCES) + 1)}|")
    for smoothing, row in zip(SMOOTHINGS, scores.mean(axis=0), strict=True):
        print(f"| {smoothing:g} | {' | '.join(f'{value:.3f}' for value in row)} |")
    best = scores.max(axis=(1, 2)).mean()
    print(f"\n{len(scores)} images; the best pair for each image: {best:.3f}")


if __name__ == "__main__":
    main()
