"""Networks that were saved as `.keras` files."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import keras

from unet_keras.errors import InputError
from unet_keras.model import layers, losses, metrics  # noqa: F401 - saved models name their classes


def load_model(path: Path | str) -> keras.Model:
    """Load a `.keras` file, for prediction: without its optimizer.

    Args:
        path: The file.

    Returns:
        The network of `build_unet`, (B, H, W, C) -> logits (B, H', W', K + T), not compiled.

    Raises:
        InputError: It is absent or no Keras model.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no model; train until the first epoch has ended")
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as a Keras model: {error}") from None
