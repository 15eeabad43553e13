"""Refine a trained network with a few images and masks, and draw what that changed.

python examples/fine_tune.py IMAGES MASKS [key.path=value ...]
Starts from the network that ships. Of five pairs four are learned from; the fifth chooses the epoch
and shows the difference, in fine_tuned.png.
"""

import sys
from pathlib import Path

from unet_keras import config, drawing, load_model
from unet_keras.evaluation.scoring import predictor_of, read_records, rules_of, score_split
from unet_keras.inference.loading import open_run
from unet_keras.model.pretrained import resolve
from unet_keras.records.conversion import convert
from unet_keras.training.fit import train

CONFIG = Path(__file__).parent.parent / "configs" / "fine_tune.yaml"


def main(images: str, masks: str, *overrides: str) -> list[float]:
    places = [f"source.images={images}", f"source.annotations={masks}"]
    asked = config.load(CONFIG, [*places, *overrides])
    manifest = convert(asked)
    start, end = load_model(resolve("default") / "model.keras"), open_run(train(asked)).model
    record, scores, row = next(read_records(Path(asked.records.path), manifest, "val")), [], []
    for name, model in (("before", start), ("after", end)):
        predict = predictor_of(model, asked)
        overall = score_split(asked, predict).results()["overall"]
        scores.append(overall["segmentation_accuracy"])
        print(f"{name}: segmentation accuracy {scores[-1]:.3f}, Dice {overall['dice']:.3f}")
        cells = rules_of(asked.evaluate, separate=False).label(predict(record["image"])[..., 0])
        row.append(drawing.overlay(record["image"], cells))
    drawing.write_png("fine_tuned.png", drawing.panel([row], titles=["before", "after"]))
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:])
