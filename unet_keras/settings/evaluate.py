"""How whole images are scored."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from unet_keras.settings.checks import demand


@dataclass(frozen=True)
class Evaluate:
    """How whole images are scored.

    Attributes:
        split: Which images.
        threshold: Probability from which a pixel is foreground, in (0, 1). Where outlines or
            distances were learned, a higher one than 0.5 makes cells smaller.
        minimum_area: Smaller instances, in pixels, are taken for dirt; at least 0.
        method: Whether each connected component is an instance (Ronneberger et al. 2015), or a
            watershed parts those with several maxima, which finds more where lines have gaps.
        seed_prominence: How far a maximum must rise above the saddle to a higher one to be an
            instance of its own (watershed), in units of probability, in [0, 1].
        seed_smoothing: Standard deviation in pixels of a Gaussian that smooths the probabilities
            before maxima are looked for (watershed); 0 for none.
        grow_pixels: How many pixels instances are grown back where touching ones were separated;
            the records' separation takes one off each.
        tile: Side of the tiles in pixels that images are predicted by; 0 for whole images, as long
            as their activations stay below 2 GB.
        tta: Whether the probabilities of all eight flips and rotations are averaged, which takes
            eight times as long.
        ensemble: Further run folders, whose probabilities are averaged with the run's.
        membranes: Whether segments between membranes are scored too, as ISBI 2012 does it.
    """

    split: Literal["train", "val", "test"] = "test"
    threshold: float = 0.5
    minimum_area: int = 10
    method: Literal["components", "watershed"] = "components"
    seed_prominence: float = 0.2
    seed_smoothing: float = 0.0
    grow_pixels: int = 1
    tile: int = 0
    tta: bool = False
    ensemble: tuple[str, ...] = ()
    membranes: bool = False

    def __post_init__(self) -> None:
        demand(0 < self.threshold < 1, f"evaluate.threshold={self.threshold} must be in (0, 1)")
        demand(self.minimum_area >= 0, f"evaluate.minimum_area={self.minimum_area} is negative")
        prominence = f"evaluate.seed_prominence={self.seed_prominence}"
        demand(0 <= self.seed_prominence <= 1, f"{prominence} must be in [0, 1]")
        smoothing = f"evaluate.seed_smoothing={self.seed_smoothing}"
        demand(0 <= self.seed_smoothing < inf, f"{smoothing} must be at least 0")
        demand(self.grow_pixels >= 0, f"evaluate.grow_pixels={self.grow_pixels} is negative")
        demand(self.tile >= 0, f"evaluate.tile={self.tile} must be at least 0")
