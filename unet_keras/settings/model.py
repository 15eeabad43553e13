"""The network and what it minimizes."""

from dataclasses import dataclass, field
from typing import Any, Literal

from unet_keras.settings.checks import (
    class_weight_numbers,
    demand,
    demand_amount,
    demand_positive,
)


@dataclass(frozen=True)
class Model:
    """The network.

    Attributes:
        base_filters: Channels of the first level, at least 1; each level below has twice as many.
        depth: How often the contracting path halves the image, at least 1.
        stride: At least 1; 2 computes at half the image's resolution, which sees twice as far in a
            quarter of the time; 1, as published, at the image's own.
        padding: `same` keeps the image's size; `valid` is the network of 2015.
        normalization: What stands between convolution and ReLU.
        dropout: Share of features dropped at the end of the contracting path, in [0, 1).
        output: Of one class beside the background: `sigmoid`, one logit, or `softmax`, two.
    """

    base_filters: int = 16
    depth: int = 4
    stride: int = 1
    padding: Literal["same", "valid"] = "same"
    normalization: Literal["batch", "group", "none"] = "batch"
    dropout: float = 0.0
    output: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        demand_positive(self.base_filters, "model.base_filters")
        demand_positive(self.depth, "model.depth")
        demand_positive(self.stride, "model.stride")
        demand(
            self.stride == 1 or self.padding == "same",
            f"model.stride={self.stride} needs model.padding=same, not {self.padding}",
        )
        demand(0 <= self.dropout < 1, f"model.dropout={self.dropout} must be in [0, 1)")


@dataclass(frozen=True)
class Loss:
    """What training minimizes.

    Attributes:
        cross_entropy: Factor of the pixel-weighted cross-entropy, at least 0.
        dice: Factor of the Dice loss, at least 0; not both are 0.
        distance: Factor of the distance map's loss, at least 0; above, the network has the map as a
            further output, and the watershed starts from it.
        border_weight: w0, the weight of a pixel squeezed between two instances (2015: 10), at
            least 0.
        class_weights: w_c, the weight of background, class 1, ..., each at least 0; empty for 1
            everywhere, or `balanced` for the number of pixels over classes times the class's
            pixels.
        normalize: What an image's weighted cross-entropies are divided by: the sum of its
            `weights`, the number of its `pixels`, or nothing (`none`; 2015, eq. 1).
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    distance: float = 0.0
    border_weight: float = 5.0
    # OmegaConf knows no type for numbers or a word; a list, unlike a tuple, gives way to a word.
    class_weights: Any = field(default_factory=list)
    normalize: Literal["weights", "pixels", "none"] = "weights"

    def __post_init__(self) -> None:
        for name in ("cross_entropy", "dice", "distance", "border_weight"):
            demand_amount(getattr(self, name), f"loss.{name}")
        demand(
            self.cross_entropy + self.dice > 0,
            "loss.cross_entropy and loss.dice are both 0: nothing would be learned",
        )
        if self.class_weights != "balanced":
            object.__setattr__(self, "class_weights", class_weight_numbers(self.class_weights))

    @property
    def maps(self) -> tuple[str, ...]:
        """The maps that the network tells beside the classes."""
        return ("distance",) if self.distance > 0 else ()
