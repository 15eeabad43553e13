"""Train a network that is not ours with a stock loss: python examples/stock_losses.py RECORDS."""

import keras
from keras import layers

from unet_keras import load_dataset
from unet_keras.command import run_script


def main(records: str = "records/synthetic", epochs: int = 10) -> None:
    keras.utils.set_random_seed(0)
    # (image, class, weight) triples: Keras multiplies each pixel's loss by its weight.
    data = {
        split: load_dataset(records, split, crop=(256, 256), batch_size=4, weights="sample_weight")
        for split in ("train", "val")
    }
    image = keras.Input(data["train"].element_spec[0].shape[1:])
    features = layers.Rescaling(1 / 64, offset=-2)(image)
    for dilation in (1, 2, 4, 8, 1):
        features = layers.Conv2D(16, 3, padding="same", dilation_rate=dilation)(features)
        features = layers.ReLU()(features)
    model = keras.Model(image, layers.Conv2D(1, 1)(features))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        # By default it would cut off the decimals of the weights.
        weighted_metrics=[keras.metrics.BinaryIoU([1], 0.0, name="iou", dtype="float32")],
    )
    model.fit(
        data["train"], steps_per_epoch=12, epochs=epochs, validation_data=data["val"],
        shuffle=False,
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
