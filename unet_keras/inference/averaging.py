"""Averages of probabilities: over flips and rotations of the image, and over several networks.

    image          (H, W) or (H, W, C)  raw grey values
    probabilities  float32 (H, W, K)    what each prediction gives; so does their average

Of networks whose errors differ, the average is right more often than any one of them.
"""

from collections.abc import Callable, Sequence

import numpy as np

from unet_keras.errors import InputError

Prediction = Callable[[np.ndarray], np.ndarray]

# (quarter turns, whether mirrored first): the symmetries of the square.
SYMMETRIES = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))


def over_flips(predict: Prediction) -> Prediction:
    """Return the prediction averaged over all eight flips and rotations of the image.

    The image is turned as a whole, so that tiles equal the whole image here too.

    Args:
        predict: From an image (H, W) or (H, W, C) to probabilities (H, W, K).

    Returns:
        Likewise, float32, in eight times the time.
    """

    def averaged(image: np.ndarray) -> np.ndarray:
        return _mean([_turned(predict, turns, mirrored) for turns, mirrored in SYMMETRIES], image)

    return averaged


def over_models(predictions: Sequence[Prediction]) -> Prediction:
    """Return the average of several networks' predictions; of one, that one.

    Args:
        predictions: At least one, each from an image (H, W) or (H, W, C) to probabilities
            (H, W, K).

    Returns:
        Likewise, float32 where there are several; raises `InputError` where their K differ.
    """
    return predictions[0] if len(predictions) == 1 else lambda image: _mean(predictions, image)


def _turned(predict: Prediction, turns: int, mirrored: bool) -> Prediction:
    """The prediction of the turned image, turned back."""

    def turned(image: np.ndarray) -> np.ndarray:
        view = image[:, ::-1] if mirrored else image
        predicted = np.rot90(predict(np.ascontiguousarray(np.rot90(view, turns))), -turns)
        return predicted[:, ::-1] if mirrored else predicted

    return turned


def _mean(predictions: Sequence[Prediction], image: np.ndarray) -> np.ndarray:
    total: np.ndarray | None = None
    for predict in predictions:
        predicted = predict(image)
        if total is None:
            total = np.array(predicted, np.float32)
        elif total.shape != predicted.shape:
            raise InputError(
                f"the networks of an ensemble must have the same classes, but one gives "
                f"{total.shape[-1]} and another {predicted.shape[-1]} maps"
            )
        else:
            total += predicted
    assert total is not None
    total /= len(predictions)
    return total
