"""Score a recipe by k-fold cross-validation; images of one well stay in one fold.

python examples/cross_validation.py IMAGES MASKS [FOLDS] [key.path=value ...]
In turn a fold is scored, the next one chooses the epoch and the others are trained on.
"""

import sys
from dataclasses import replace

from unet_keras import folder_references, grouped_folds, write_records
from unet_keras.config import load
from unet_keras.evaluation.scoring import predictor_of, score_split
from unet_keras.inference.loading import open_run
from unet_keras.training.fit import train

WELL = r"_([A-P]\d+)_"  # of A172_Phase_C7_1_00d00h00m_1.tif: C7


def main(images: str, masks: str, folds: str = "5", *overrides: str) -> list[float]:
    pairs, count, scores = folder_references(images, masks, group_pattern=WELL), int(folds), []
    fold_of = grouped_folds([pair.group for pair in pairs], count)
    for tested in range(count):
        splits = {tested: "test", (tested + 1) % count: "val"}
        parts = [splits.get(fold, "train") for fold in fold_of]
        records = f"records/fold_{tested}"
        write_records([replace(p, split=s) for p, s in zip(pairs, parts, strict=True)], records)
        places = [f"records.path={records}", f"train.run_dir=runs/fold_{tested}"]
        done = open_run(train(load(None, [*places, *overrides])))
        found = score_split(done.config, predictor_of(done.model, done.config)).results()
        scores.append(found["overall"]["dice"])
        print(f"fold {tested}: Dice {scores[-1]:.3f} on {len(found['images'])} images")
    print(f"mean: {sum(scores) / count:.3f}")
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:])
