"""Models as saved on one day: writes old_model.keras, old_saved_model/ and old_models.npz.

    python models.py

They stand for those that users have: the tests load them with the code of today. So this is run
again only where files of that day can no longer be read on purpose, and the commit says why.
Written by TensorFlow 2.21.0 and Keras 3.15.1. The network is trained for a few steps, so that no
statistic is at its start.
"""

from pathlib import Path

import keras
import numpy as np

from unet_keras.inference.serving import export_saved_model
from unet_keras.inference.tiling import predict_tiled
from unet_keras.model.unet import build_unet

FOLDER = Path(__file__).parent


def main() -> None:
    keras.utils.set_random_seed(2015)
    model = build_unet(base_filters=2, depth=1, mean=120.0, scale=50.0)
    random = np.random.default_rng(2015)
    images = random.integers(0, 256, (4, 32, 32, 1)).astype("float32")
    truth = (images > 128).astype("float32")
    model.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(images, truth, epochs=200, verbose=0)
    image = random.integers(0, 256, (37, 50), dtype=np.uint8)
    model.save(FOLDER / "old_model.keras")
    metadata = {"classes": ["background", "cell"], "threshold": 0.5, "minimum_area": 10}
    export_saved_model(model, FOLDER / "old_saved_model", metadata=metadata)
    np.savez_compressed(
        FOLDER / "old_models.npz", image=image, probabilities=predict_tiled(model, image)
    )


if __name__ == "__main__":
    main()
