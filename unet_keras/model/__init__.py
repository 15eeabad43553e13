"""The U-Net, its losses and its metrics.

Keras finds the classes that a saved model names among those that were imported: all of them are,
whichever is asked for.
"""

from unet_keras.model import layers, losses, metrics

__all__ = ["layers", "losses", "metrics"]
