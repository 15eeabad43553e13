"""Without learning: local variance finds cells in phase contrast, a watershed parts them.

What is brighter or darker than its surroundings is a cell; flat grey is background. The threshold
is Otsu's of each image times a factor; the factor and the scales of variance and cells are those of
a small grid that segment the training images best.
"""

from itertools import product

import numpy as np
from exchange import finish, parse, read_training
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

from unet_keras.evaluation.instances import segmentation_accuracy

WINDOWS = (3, 5, 9)  # pixels, standard deviation of the Gaussian that averages
FACTORS = (0.6, 0.8, 1.0)  # times Otsu's threshold, which lies too high where cells are flat
SMOOTHINGS = (2, 4, 7)  # pixels, of the distances whose maxima are cells
SMALLEST_CELL = 50  # pixels


def segment(image: np.ndarray, window: float, factor: float, smoothing: float) -> np.ndarray:
    """Instances, integer (H, W), of an image (H, W)."""
    grey = image.astype(np.float32)
    mean = ndimage.gaussian_filter(grey, window)
    variance = ndimage.gaussian_filter(grey**2, window) - mean**2
    texture = np.log1p(np.maximum(variance, 0))
    mask = texture > factor * threshold_otsu(texture)
    mask = remove_small_objects(ndimage.binary_fill_holes(mask), max_size=SMALLEST_CELL)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), smoothing)
    peaks = (distance == ndimage.maximum_filter(distance, 2 * smoothing + 1)) & mask
    return watershed(-distance, label(peaks), mask=mask)


def main() -> None:
    """Segment the test images."""
    arguments = parse()
    images, truths = read_training(arguments.folder)
    scores = {}
    for settings in product(WINDOWS, FACTORS, SMOOTHINGS):
        found = [segment(image, *settings) for image in images]
        pairs = zip(truths, found, strict=True)
        scores[settings] = np.mean(
            [segmentation_accuracy(t, labels)["segmentation_accuracy"] for t, labels in pairs]
        )
    best = max(scores, key=scores.__getitem__)
    account = {"steps": 0, "cpu_seconds": 0.0, "seconds": 0.0}
    finish(arguments.folder, arguments.output, lambda image: segment(image, *best), account)


if __name__ == "__main__":
    main()
