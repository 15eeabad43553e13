"""Images of another scale than the training's: resized for the network, and its answer back.

scale  the image's pixel size over the training's: 0.5 where a cell is twice as wide, in pixels, as
       the network has learned it
"""

import numpy as np
from skimage.transform import resize

from unet_keras.errors import InputError
from unet_keras.inference.averaging import Prediction

# Beyond, a typing error (nanometres, pixels a micrometre) is more likely than such an image.
LARGEST_SCALE = 32


def scale_between(pixel_size: float | None, trained: float | None, model: object) -> float:
    """Return by how much images must be scaled; 1 where nothing is asked for.

    Args:
        pixel_size: Of the images, in micrometres, as given; None where it is not.
        trained: Of the training images, likewise; None where the model does not know.
        model: What to call it in messages.

    Returns:
        The one over the other, in [1/32, 32].

    Raises:
        InputError: The model knows no pixel size, or the given one cannot be.
    """
    if pixel_size is None:
        return 1.0
    if not trained:
        raise InputError(
            f"--pixel-size {pixel_size:g}: {model} does not say at what pixel size it was trained; "
            "give source.pixel_size when the records are made, or leave --pixel-size out"
        )
    if not 1 / LARGEST_SCALE <= pixel_size / trained <= LARGEST_SCALE:
        raise InputError(
            f"--pixel-size {pixel_size:g} is far from the training's {trained:g} micrometres: "
            "give the side of a pixel in micrometres"
        )
    return pixel_size / trained


def at_scale(predict: Prediction, scale: float) -> Prediction:
    """Return the prediction of images of another scale, at their own size.

    Args:
        predict: From an image (H, W, C) to probabilities (H, W, K).
        scale: From `scale_between`, above 0.

    Returns:
        Likewise, in [0, 1]. Images are averaged over the pixels that fall together and interpolated
        linearly; whole numbers stay such.
    """
    if scale == 1:
        return predict

    def scaled(image: np.ndarray) -> np.ndarray:
        size = [max(1, round(side * scale)) for side in image.shape[:2]]
        small = _resized(image, size)
        if image.dtype.kind in "ui":
            small = np.rint(small)
        predicted = predict(small.astype(image.dtype))
        return np.clip(_resized(predicted, image.shape[:2]), 0, 1)

    return scaled


def _resized(image: np.ndarray, size: tuple[int, ...] | list[int]) -> np.ndarray:
    image = image.astype(np.float32, copy=False)
    # Without ranges: grey values are what they are. Smoothed only where pixels fall together.
    smooth = any(new < old for new, old in zip(size, image.shape[:2], strict=True))
    return resize(image, size, order=1, mode="reflect", anti_aliasing=smooth, preserve_range=True)
