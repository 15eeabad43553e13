"""Predict with SavedModels in a process that can import neither unet_keras nor Keras.

Run as `python load_alone.py FILE.npz`, which holds `model` (folders) and `image_0`, ...; for each
folder and image it writes `probabilities_<folder>_<image>` into OUTPUT, FILE.npz beside.
"""

import sys
from pathlib import Path

import numpy as np

BLOCKED = ("unet_keras", "keras", "tf_keras", "scipy", "skimage")


class Blocker:
    """Finder that refuses everything but TensorFlow and what it stands on."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


def main(file):
    import tensorflow as tf

    # TensorFlow imports Keras by itself; what that has left behind must not help either.
    for name in [name for name in sys.modules if name.split(".")[0] in BLOCKED]:
        del sys.modules[name]
    sys.meta_path.insert(0, Blocker())
    given, results = np.load(file), {}
    for number, folder in enumerate(given["models"]):
        predict = tf.saved_model.load(str(folder)).signatures["serving_default"]
        for name in given.files:
            if name.startswith("image"):
                images = tf.constant(given[name])
                results[f"{name}_{number}"] = predict(images=images)["probabilities"].numpy()
    assert not any(name.split(".")[0] in BLOCKED for name in sys.modules)
    np.savez(Path(file).with_name("results.npz"), **results)


if __name__ == "__main__":
    main(sys.argv[1])
