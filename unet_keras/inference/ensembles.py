"""Which networks may be averaged: those that learned the same, of images of the same kind."""

from collections.abc import Sequence

import numpy as np

from unet_keras.errors import InputError
from unet_keras.inference.loading import Predictor


def demand_one_target(predictors: Sequence[Predictor], learned: str | None = None) -> None:
    """Refuse to average what networks say that learned something else (`targets.kind`).

    Args:
        predictors: Of an ensemble; one that does not say what it learned is taken as it is.
        learned: What all must have learned; None takes what the first one says that does.

    Raises:
        InputError: Names the model and both targets.
    """
    for predictor in predictors:
        theirs = predictor.metadata.get("learned")
        if learned is not None and theirs not in (None, learned):
            raise InputError(
                f"{predictor.path} learned targets.kind={theirs}, not {learned} as the first "
                "model: their probabilities mean different things; leave it out of the ensemble"
            )
        learned = learned or theirs


def common_dtype(predictors: Sequence[Predictor], known: np.dtype | None = None) -> np.dtype | None:
    """Return the type of the images that networks take, or refuse them: grey values would differ.

    Args:
        predictors: Of an ensemble; those that normalize, or do not say, take any.
        known: What the images are, or None.

    Returns:
        The only type that any of them wants; None where all take any.

    Raises:
        InputError: Names the model and both types.
    """
    for predictor in predictors:
        theirs = predictor.image_dtype
        if known is not None and theirs not in (None, known):
            raise InputError(
                f"{predictor.path} was trained on {theirs} images, not {known}: an ensemble needs "
                "networks of the same grey values; leave it out, or give --normalize to predict"
            )
        known = known or theirs
    return known
