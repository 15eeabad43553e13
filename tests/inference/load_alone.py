"""Predict with SavedModels in a process that can import neither unet_keras nor Keras.

Run as `python load_alone.py FILE.npz`, which holds `model` (folders) and `image_0`, ...; for each
folder and image batch it writes `<image>_<folder>_<signature>` into `results.npz` beside FILE.npz:
the probabilities of each signature.
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
        loaded = tf.saved_model.load(str(folder))
        for name in given.files:
            if not name.startswith("image"):
                continue
            images = tf.constant(given[name])
            inputs = {
                "serving_default": {"images": images},
                "tiled": {"images": images, "tile": tf.constant(24)},
                "encoded": {"encoded": tf.stack([tf.io.encode_png(image) for image in images])},
            }
            for signature, tensors in inputs.items():
                outputs = loaded.signatures[signature](**tensors)
                results[f"{name}_{number}_{signature}"] = outputs["probabilities"].numpy()
    assert not any(name.split(".")[0] in BLOCKED for name in sys.modules)
    np.savez(Path(file).with_name("results.npz"), **results)


if __name__ == "__main__":
    main(sys.argv[1])
