"""Score a recipe by k-fold cross-validation; images of one well stay in one fold.

python examples/cross_validation.py IMAGES MASKS [FOLDS [key.path=value ...]]
In turn one of at least 3 is scored, the next one chooses the epoch, the others are trained on.
--group finds the well in a file's name; --group '(.+)' takes each image by itself.
"""

from dataclasses import replace

from unet_keras import grouped_folds, write_records
from unet_keras.command import run_script
from unet_keras.config import load
from unet_keras.evaluation.scoring import predictor_of, score_split
from unet_keras.inference.loading import open_run
from unet_keras.records.conversion import read_source, targets_of
from unet_keras.training.fit import train

WELL = r"_([A-P]\d+)_"  # of A172_Phase_C7_1_00d00h00m_1.tif: C7


def main(images: str, masks: str, folds: int = 5, *keys: str, group: str = WELL) -> list[float]:
    given = "source.kind=folders", f"source.images={images}", f"source.annotations={masks}"
    config = load(None, [*keys, *given, f"source.group_pattern={group}"])
    pairs, scores = read_source(config), []
    fold_of = grouped_folds([pair.group for pair in pairs], folds)
    for tested in range(folds):
        parts = [{tested: "test", (tested + 1) % folds: "val"}.get(k, "train") for k in fold_of]
        split = [replace(p, split=s) for p, s in zip(pairs, parts, strict=True)]
        places = f"records.path=records/fold_{tested}", f"train.run_dir=runs/fold_{tested}"
        write_records(split, f"records/fold_{tested}", **targets_of(config))
        run = open_run(train(load(None, [*keys, *places])))
        found = score_split(run.config, predictor_of(run.model, run.config)).results()
        scores.append(found["overall"]["dice"])
        print(f"fold {tested}: Dice {scores[-1]:.3f} on {len(found['images'])} images")
    print(f"mean: {sum(scores) / folds:.3f}")
    return scores


if __name__ == "__main__":
    run_script(main)
