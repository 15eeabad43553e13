"""Train a network of one's own with our losses: python examples/custom_model.py RECORDS."""

import keras
from keras import layers

from unet_keras import Dice, SoftDice, WeightedCrossEntropy, WeightedSum, load_dataset
from unet_keras.command import run_script


class Dilated(keras.Model):
    """Convolutions that see farther and farther; (B, H, W, C) to logits (B, H, W, 1)."""

    def __init__(self) -> None:
        super().__init__()
        same = {"padding": "same", "activation": "relu"}
        convolutions = [layers.Conv2D(16, 3, dilation_rate=r, **same) for r in (1, 2, 4, 8, 1)]
        self.steps = [layers.Rescaling(1 / 64, offset=-2), *convolutions, layers.Conv2D(1, 1)]

    def call(self, images):
        for step in self.steps:
            images = step(images)
        return images


def main(records: str = "records/synthetic", epochs: int = 10) -> list[float]:
    keras.utils.set_random_seed(0)
    shape, model = {"crop": (256, 256), "batch_size": 4}, Dilated()
    data = [load_dataset(records, split, **shape) for split in ("train", "val")]
    loss = WeightedSum([WeightedCrossEntropy(), SoftDice()])
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=[Dice()])
    fit = {"steps_per_epoch": 12, "epochs": epochs, "shuffle": False}
    return model.fit(data[0], validation_data=data[1], **fit).history["loss"]


if __name__ == "__main__":
    run_script(main)
