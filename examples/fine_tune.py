"""Refine the network that ships with a few images and masks; fine_tuned.png shows the difference.

python examples/fine_tune.py IMAGES MASKS [key.path=value ...]
Of five pairs four are learned from; the fifth chooses the epoch and is shown.
"""

from pathlib import Path

from unet_keras import config, drawing
from unet_keras.command import run_script
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import predictor_of, read_records, rules_of, score_split
from unet_keras.inference.loading import open_predictor, open_run
from unet_keras.records.conversion import convert
from unet_keras.training.fit import train


def main(images: str, masks: str, *keys: str) -> list[float]:
    places = [f"source.images={images}", f"source.annotations={masks}"]
    asked = config.load(Path(__file__).parents[1] / "configs/fine_tune.yaml", [*places, *keys])
    manifest, scores, row = convert(asked), [], []
    if not manifest.splits["val"].images:
        raise InputError(f"{images} has no image to choose the epoch by: give two pairs or more")
    start, end = open_predictor(Path("default")), predictor_of(open_run(train(asked)).model, asked)
    record = next(read_records(Path(asked.records.path), manifest, "val"))
    for name, predict in (("before", start), ("after", end)):
        overall = score_split(asked, predict).results()["overall"]
        scores.append(overall["segmentation_accuracy"])
        print(f"{name}: segmentation accuracy {scores[-1]:.3f}, Dice {overall['dice']:.3f}")
        cells = rules_of(asked.evaluate, separate=False).label(predict(record["image"])[..., 0])
        row.append(drawing.overlay(record["image"], cells))
    drawing.write_png("fine_tuned.png", drawing.panel([row], titles=["before", "after"]))
    return scores


if __name__ == "__main__":
    run_script(main)
