"""Train a U-Net with plain `compile` and `fit`: python examples/fit.py [RECORDS [EPOCHS]]."""

import keras

import unet_keras
from unet_keras import Dice, SoftDice, WeightedCrossEntropy, WeightedSum
from unet_keras.command import run_script
from unet_keras.records.manifest import read_manifest


def main(records: str = "records/synthetic", epochs: int = 10) -> None:
    keras.utils.set_random_seed(0)
    manifest = read_manifest(records)
    shape = {"crop": (256, 256), "batch_size": 4}
    training = unet_keras.load_dataset(records, "train", augment=unet_keras.Augmentation(), **shape)
    validation = unet_keras.load_dataset(records, "val", **shape)

    model = unet_keras.build_unet(
        base_filters=16, mean=manifest.mean, scale=manifest.scale, input_channels=manifest.channels
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=WeightedSum([WeightedCrossEntropy(), SoftDice()], [1.0, 1.0]),
        metrics=[Dice()],
    )
    model.fit(
        training, steps_per_epoch=12, epochs=epochs, validation_data=validation, shuffle=False
    )
    model.save("fit.keras")


if __name__ == "__main__":
    run_script(main)
