"""Starting from a network that was trained before instead of from random weights (fine-tuning)."""

from pathlib import Path

import keras
import numpy as np

from unet_keras.errors import InputError
from unet_keras.model.pretrained import resolve
from unet_keras.model.saved import load_model
from unet_keras.model.unet import MAPS

# What the network says last: it depends on the classes, which may be others now.
OUTPUTS = ("logits", MAPS)

# Arrays by the name of their layer.
Weights = dict[str, list[np.ndarray]]


def read_weights(path: Path) -> Weights:
    """Read the weights of a trained network.

    Args:
        path: A run folder, a `.keras` file, or `default` for the network that ships.

    Returns:
        The arrays of each layer that has any, float32, by its name.

    Raises:
        InputError: There is none, or it is no Keras model.
    """
    found = resolve(path)
    file = found / "model.keras" if found.is_dir() else found
    if not file.is_file():
        raise InputError(
            f"train.start_from={path} is neither a .keras file nor a run folder with model.keras, "
            "nor `default`"
        )
    model = load_model(file)
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


def take_weights(model: keras.Model, weights: Weights, origin: Path | str) -> list[str]:
    """Give a network the weights of another, all but those of outputs that do not fit.

    Args:
        model: Of `build_unet`, changed in place. Its grey values' mean and scale stay its own.
        weights: Of `read_weights`.
        origin: Where they are from, for messages.

    Returns:
        Names of the outputs that fit not, whose weights stay as they were.

    Raises:
        InputError: A layer below the outputs is missing or has another shape; nothing has changed.
    """
    taken, left = {}, []
    _demand_channels(model, weights, origin)
    for layer in model.layers:
        own, theirs = layer.get_weights(), weights.get(layer.name, [])
        if [array.shape for array in own] == [array.shape for array in theirs]:
            taken[layer.name] = theirs
        elif layer.name in OUTPUTS:
            left.append(layer.name)
        else:
            raise InputError(
                f"train.start_from={origin} is another network: its layer {layer.name} has weights "
                f"of {_shapes(theirs)}, here they are {_shapes(own)}; give the same model.* as it "
                "was trained with, or start without it"
            )
    missing = weights.keys() - taken.keys() - set(OUTPUTS)
    if missing:
        raise InputError(
            f"train.start_from={origin} is another network: it has {', '.join(sorted(missing))} "
            "besides; give the same model.* as it was trained with, or start without it"
        )
    for layer in model.layers:
        if taken.get(layer.name):
            layer.set_weights(taken[layer.name])
    return left


def _demand_channels(model: keras.Model, weights: Weights, origin: Path | str) -> None:
    """Refuse a network for other channels, before its first layer is found not to fit."""
    first = next((layer for layer in model.layers if layer.get_weights()), None)
    theirs = weights.get(first.name, []) if first is not None else []
    if first is None or not theirs or theirs[0].ndim != 4:
        return
    own, given = (array.shape for array in (first.get_weights()[0], theirs[0]))
    if own[2] != given[2] and own[:2] + own[3:] == given[:2] + given[3:]:
        raise InputError(
            f"train.start_from={origin} takes {given[2]}-channel images, and these have "
            f"{own[2]} channels: convert them with source.channels={given[2]}"
        )


def _shapes(arrays: list[np.ndarray]) -> str:
    return " and ".join(str(array.shape) for array in arrays) or "none"
