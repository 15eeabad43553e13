"""Score a recipe by k-fold cross-validation; images of one well stay in one fold.

python examples/cross_validation.py IMAGES MASKS [FOLDS [key.path=value ...]]
In turn one of at least 3 is scored, the next one chooses the epoch, the others are trained on.
--group finds the well in a file's name; --group '(.+)' takes each image by itself.
"""

from dataclasses import replace

from unet_keras import folder_references, grouped_folds, write_records
from unet_keras.command import run_script
from unet_keras.config import load
from unet_keras.evaluation.scoring import predictor_of, score_split
from unet_keras.inference.loading import open_run
from unet_keras.training.fit import train

WELL = r"_([A-P]\d+)_"  # of A172_Phase_C7_1_00d00h00m_1.tif: C7


def main(images: str, masks: str, folds: int = 5, *keys: str, group: str = WELL) -> list[float]:
    source, scores = load(None, [*keys, f"source.group_pattern={group}"]).source, []
    kind = {"kind": source.mask_kind, "class_values": source.class_values}
    pairs = folder_references(images, masks, group_pattern=group, **kind)
    fold_of = grouped_folds([pair.group for pair in pairs], folds)
    for tested in range(folds):
        parts = [{tested: "test", (tested + 1) % folds: "val"}.get(k, "train") for k in fold_of]
        records = f"records/fold_{tested}"
        write_records([replace(p, split=s) for p, s in zip(pairs, parts, strict=True)], records)
        places = f"records.path={records}", f"train.run_dir=runs/fold_{tested}"
        done = open_run(train(load(None, [*places, *keys])))
        found = score_split(done.config, predictor_of(done.model, done.config)).results()
        scores.append(found["overall"]["dice"])
        print(f"fold {tested}: Dice {scores[-1]:.3f} on {len(found['images'])} images")
    print(f"mean: {sum(scores) / folds:.3f}")
    return scores


if __name__ == "__main__":
    run_script(main)
