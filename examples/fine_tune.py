"""Fine-tune a saved model on a few images and their masks.

python examples/fine_tune.py MODEL.keras IMAGES MASKS [EPOCHS]
"""

import sys

import keras

import unet_keras
from unet_keras import Dice, SoftDice, WeightedCrossEntropy, WeightedSum, load_dataset


def main(saved: str, images: str, masks: str, epochs: str = "20") -> list[float]:
    keras.utils.set_random_seed(0)
    # Of five pairs four are learned from; the fifth tells which epoch was the best.
    pairs = unet_keras.folder_references(images, masks, fractions=(0.8, 0.2, 0.0))
    unet_keras.write_records(pairs, "records/fine_tune")
    shape = {"crop": (128, 128), "batch_size": 4}
    augment = unet_keras.Augmentation()  # so few images are never shown twice the same
    training = load_dataset("records/fine_tune", "train", augment=augment, **shape)
    validation = load_dataset("records/fine_tune", "val", **shape)

    model = unet_keras.load_model(saved)
    # A small rate, so that little is forgotten of what was learned before.
    loss = WeightedSum([WeightedCrossEntropy(), SoftDice()])
    model.compile(keras.optimizers.Adam(1e-4), loss, metrics=[Dice()])
    before = model.evaluate(validation, return_dict=True)["dice"]
    file = "fine_tuned.keras"
    best = keras.callbacks.ModelCheckpoint(file, "val_dice", mode="max", save_best_only=True)
    fit = {"steps_per_epoch": 20, "epochs": int(epochs), "shuffle": False}
    model.fit(training, validation_data=validation, callbacks=[best], **fit)
    print(f"Dice {before:.3f} before, {best.best:.3f} after: {file}")
    return [before, best.best]


if __name__ == "__main__":
    main(*sys.argv[1:])
