"""What happens to training images: the section `augment`, and what the input pipeline is given."""

import math
from dataclasses import dataclass
from typing import Literal

from unet_keras.settings.checks import Pair, demand, demand_amount

Mode = Literal["none", "replace", "append"]


@dataclass(frozen=True)
class Augmentation:
    """What happens to an image; strengths at neutral values leave its grey values as they are.

    Attributes:
        mode: `none` takes random crops as they are, `replace` transforms each anew, `append` has
            each batch of plain crops followed by the same crops transformed: twice the training
            set, and twice as many batches an epoch. A phase of `train.phases` may have its own.
        kind: `grid`: displacements of a coarse grid and cubic splines between (Ronneberger et al.
            2015). `smooth`: noise in every pixel, smoothed by a Gaussian (Simard et al. 2003).
        grid: Rows and columns of the coarse grid; it spans the crop.
        deviation_pixels: Standard deviation of the grid's displacements (2015: 10), cut at three
            deviations; at least 0, which is none.
        alpha: Factor on the smoothed noise, in pixels (`smooth`; noise uniform in [-1, 1)). The
            field's standard deviation is 0.16 alpha / sigma pixels.
        sigma: Standard deviation of the Gaussian, in pixels, above 0 (`smooth`).
        rotation_degrees: Largest angle, to either side, at least 0.
        shift_pixels: Largest shift, to each side, at least 0; random crops shift anyway.
        zoom: Smallest and largest magnification, above 0.
        flip: Whether to mirror at random, in both directions.
        brightness: Largest shift, as a share of the grey values' standard deviation, at least 0.
        contrast: Largest change of contrast, as a share of it, at least 0.
        gamma: Smallest and largest power, above 0, applied between an image's extremes.
        noise: Largest standard deviation of added noise, as a share of the grey values', at least
            0.
        blur_pixels: Largest standard deviation of a Gaussian blur, at least 0.
        image_order: 1 samples images linearly, which is fast but blurs them, so that a network
            learns from softer images than it will see; 3 by cubic splines, which does not.
        jit_compile: Whether the resampling is compiled by XLA.
        device: Where it runs: `auto` (the first GPU, or else the CPU), `cpu`, or a device's name.
    """

    mode: Mode = "replace"
    kind: Literal["grid", "smooth"] = "grid"
    grid: Pair = (3, 3)
    deviation_pixels: float = 10.0
    alpha: float = 300.0
    sigma: float = 8.0
    rotation_degrees: float = 180.0
    shift_pixels: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    brightness: float = 0.1
    contrast: float = 0.1
    gamma: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0
    blur_pixels: float = 0.0
    image_order: Literal[1, 3] = 1
    jit_compile: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        # YAML knows lists only; what is compiled is looked up by hash.
        for name in ("grid", "zoom", "gamma"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        choices = {"mode": ("none", "replace", "append"), "kind": ("grid", "smooth")}
        for name, allowed in {**choices, "image_order": (1, 3)}.items():
            value = getattr(self, name)
            demand(value in allowed, f"augment.{name}={value!r} must be one of {allowed}")
        demand(
            len(self.grid) == 2 and min(self.grid) >= 2,
            f"augment.grid={self.grid} must be two numbers of at least 2",
        )
        for name in (
            "deviation_pixels", "alpha", "rotation_degrees", "shift_pixels", "brightness",
            "contrast", "noise", "blur_pixels",
        ):  # fmt: skip
            value = getattr(self, name)
            demand_amount(value, f"augment.{name}")
        demand(
            self.contrast < 1,
            f"augment.contrast={self.contrast} must be below 1: a share of the contrast is added "
            "or taken away, and from 1 on dark and bright change places",
        )
        demand(0 < self.sigma < math.inf, f"augment.sigma={self.sigma} must be above 0")
        for name in ("zoom", "gamma"):
            low, high = getattr(self, name)
            demand(
                0 < low <= high < math.inf,
                f"augment.{name}={(low, high)} must be two numbers above 0, the smaller one first",
            )
        demand(self.device != "", "augment.device is empty: give auto, cpu or a device like GPU:0")

    @property
    def is_elastic(self) -> bool:
        """Whether pixels are displaced at random."""
        return (self.deviation_pixels if self.kind == "grid" else self.alpha) > 0

    @property
    def is_geometric(self) -> bool:
        """Whether anything but the crop moves pixels; if not, crops are slices."""
        moves = self.is_elastic or self.flip or self.rotation_degrees > 0 or self.shift_pixels > 0
        return moves or self.zoom != (1.0, 1.0)

    @property
    def changes_grey(self) -> bool:
        """Whether grey values change."""
        strengths = self.blur_pixels, self.contrast, self.brightness, self.noise
        return max(strengths) > 0 or self.gamma != (1.0, 1.0)


NO_AUGMENTATION = Augmentation(
    mode="none",
    deviation_pixels=0.0,
    rotation_degrees=0.0,
    flip=False,
    brightness=0.0,
    contrast=0.0,
    jit_compile=False,  # nothing is resampled
)
