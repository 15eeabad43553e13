"""How the network that ships does on real images that it was not trained for, and how it is packed.

    python benchmarks/default_model.py SAMPLE       its scores on LIVECell's sample, as Markdown,
                                                    and pictures in runs/default_model
    python benchmarks/default_model.py --pack RUN   put a run of configs/default_model.yaml, which
                                                    `evaluate` has scored, in its place

The sample's images took no part in training. How strongly seeds are smoothed, and that synthetic
cells vary as much as they do, was chosen with nine of them in view, as the network's card says.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from samples import livecell_sample
from skimage.transform import resize

from unet_keras import command
from unet_keras.errors import InputError

if TYPE_CHECKING:
    from unet_keras.inference.loading import Predictor
    from unet_keras.sources.base import Sample

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "unet_keras" / "model" / "default"
PICTURES = ROOT / "runs" / "default_model"

Scores = tuple[float, float, float]


def pack(run: Path) -> None:
    """Write the run's network, in float32 and without its optimizer, and what is known of it."""
    from unet_keras.inference.loading import describe_run, open_run
    from unet_keras.records.manifest import read_manifest
    from unet_keras.training.fit import build_network
    from unet_keras.training.start import read_weights, take_weights

    opened = open_run(run)
    model = build_network(opened.config, read_manifest(run))
    take_weights(model, read_weights(run), run)
    PLACE.mkdir(exist_ok=True)
    model.save(PLACE / "model.keras")
    # It knows no microscope, so images of any are brought to what it knows.
    metadata = {**describe_run(opened), "normalize_images": True}
    text = json.dumps(metadata, indent=2, sort_keys=True)
    (PLACE / "metadata.json").write_text(text + "\n")
    print(f"{PLACE}: {(PLACE / 'model.keras').stat().st_size / 1e6:.1f} MB")


def score(sample: Path) -> None:
    """Print scores by cell type and at another scale, and draw what was found."""
    from unet_keras import drawing
    from unet_keras.inference.loading import open_predictor
    from unet_keras.sources.coco import read_coco

    predictor = open_predictor(Path("default"))
    rows: dict[str, list[Scores]] = {}
    scales: dict[str, list[Scores]] = {"as they are": []}
    for reference in read_coco(sample / "images", sample / "annotations")[0]:
        found = reference.load()
        scores, labels = scores_of(found, predictor)
        rows.setdefault(found.group, []).append(scores)
        scales["as they are"].append(scores)
        drawing.write_png(
            PICTURES / f"{Path(found.file_name).stem}.png", drawing.overlay(found.image, labels)
        )
        twice = enlarged(found)
        for name, scale in (("enlarged twice", 1), ("the same, with their pixel size", 0.5)):
            scales.setdefault(name, []).append(scores_of(twice, predictor, scale)[0])
    rows["all"] = [row for group in rows.values() for row in group]
    for head, table in (("cell type", rows), ("images", scales)):
        print(f"\n| {head} | images | Dice | SA | SA50 |\n|---|---|---|---|---|")
        for name, scored in table.items():
            means = " | ".join(f"{value:.2f}" for value in np.mean(scored, axis=0))
            print(f"| {name} | {len(scored)} | {means} |", flush=True)


def scores_of(sample: "Sample", predictor: "Predictor", scale: float = 1) -> tuple[Scores, Any]:
    """Dice, SA and SA50 of what is found in an image, and its label map."""
    from unet_keras.evaluation.instances import segmentation_accuracy
    from unet_keras.inference.instances import InstanceRules, foreground_of
    from unet_keras.inference.scaling import at_scale
    from unet_keras.targets.labels import paint_labels

    probabilities = at_scale(predictor, scale)(sample.image[..., np.newaxis])
    rules = InstanceRules.of(predictor.metadata).at_scale(scale)
    labels = rules.label(foreground_of(probabilities))
    scores = segmentation_accuracy(sample.outlines, labels)
    truth, found = paint_labels(sample.outlines, sample.size) > 0, labels > 0
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    return (dice, scores["segmentation_accuracy"], scores["segmentation_accuracy_50"]), labels


def enlarged(sample: "Sample") -> "Sample":
    """An image as an objective of twice the magnification shows it, by cubic splines."""
    from unet_keras.sources.label_outlines import trace_labels
    from unet_keras.targets.labels import paint_labels

    size = [2 * side for side in sample.size]
    image = resize(sample.image.astype(np.float32), size, order=3, preserve_range=True)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    labels = paint_labels(sample.outlines, sample.size).repeat(2, axis=0).repeat(2, axis=1)
    return replace(sample, image=image, outlines=tuple(trace_labels(labels)[0]))


def main() -> None:
    """Pack a run, score what ships, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, nargs="?", help="images/ and annotations/")
    parser.add_argument("--pack", type=Path, metavar="RUN")
    command.run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    if not (arguments.pack or arguments.sample):
        raise InputError("give LIVECell's sample to score what ships, or --pack RUN, or both")
    if arguments.pack:
        pack(arguments.pack)
    if arguments.sample:
        PICTURES.mkdir(parents=True, exist_ok=True)
        score(arguments.sample)


if __name__ == "__main__":
    main()
