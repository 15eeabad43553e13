"""Images that are shrunk as a whole instead of cropped, masks alike.

    image          uint8, uint16 or float32  (H, W) or (H, W, C) -> (h, w) or (h, w, C), same type
    probabilities  float32 (H, W, K)         of an image at its own size, seen at (h, w)

Shrunk images are averaged before they are sampled, so that no pattern of pixels turns into another;
label maps keep their numbers, and an instance that loses its last pixel is gone.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from skimage.transform import resize

from unet_keras.records.parts import fingerprint
from unet_keras.sources.base import Sample, SampleReference
from unet_keras.sources.label_outlines import trace_labels
from unet_keras.targets.labels import paint_labels

Size = tuple[int, int]


@dataclass(frozen=True)
class ShrunkReference(SampleReference):
    """A sample that is shrunk when it is loaded.

    Attributes:
        whole: The sample at its own size.
        size: Height and width in pixels to shrink to.
    """

    whole: SampleReference
    size: Size

    @classmethod
    def of(cls, whole: SampleReference, size: Size) -> "ShrunkReference":
        """Shrink a sample; names and split stay."""
        named = {field.name: getattr(whole, field.name) for field in fields(SampleReference)}
        return cls(**named, whole=whole, size=size)

    def load(self) -> Sample:
        """Read the sample and shrink image and instances."""
        sample = self.whole.load()
        labels = paint_labels(sample.outlines, sample.size)
        small = resize(labels, self.size, order=0, preserve_range=True, anti_aliasing=False)
        outlines, numbers = trace_labels(small.astype(labels.dtype))
        return replace(
            sample,
            image=resized(sample.image, self.size),
            outlines=tuple(outlines),
            classes=sample.classes[numbers - 1],
        )

    def fingerprint(self) -> str:
        """State what decides the sample: the whole one, and the size."""
        return f"{fingerprint(self.whole)} {self.split} {self.size}"


def resized(image: np.ndarray, size: Size) -> np.ndarray:
    """Shrink or enlarge an image (H, W) or (H, W, C), linearly; its type stays."""
    shrinks = size[0] < image.shape[0]
    # Without a cast to float32 first, the result would be float64.
    values = resize(
        image.astype(np.float32), size, order=1, preserve_range=True, anti_aliasing=shrinks
    )
    return np.rint(values).astype(image.dtype) if image.dtype.kind in "ui" else values


def at_size(predict: Callable[[np.ndarray], np.ndarray], size: Size) -> Callable:
    """Let a function from an image to probabilities see images shrunk to a size.

    Returns:
        A function from an image (H, W, C) to probabilities (H, W, K) at the image's own size.
    """

    def at_own_size(image: np.ndarray) -> np.ndarray:
        small = predict(resized(image, size))
        return np.clip(resized(small.astype(np.float32), image.shape[:2]), 0, 1)

    return at_own_size
