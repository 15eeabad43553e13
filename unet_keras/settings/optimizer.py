"""What turns gradients into steps."""

from dataclasses import dataclass
from typing import Literal

from unet_keras.settings.checks import demand, demand_amount


@dataclass(frozen=True)
class Optimizer:
    """What turns gradients into steps; the learning rate is each phase's own.

    Attributes:
        kind: `adam`, or `sgd` with momentum.
        momentum: Of SGD, in [0, 1): how much of a step the next one repeats (Ronneberger et al.
            2015: 0.99).
        betas: Of Adam, each in [0, 1): how much the running means of gradients and of their squares
            keep a step.
        amsgrad: Whether Adam divides by the greatest such mean of squares so far (Reddi et al.
            2018).
        weight_decay: Share of each kernel that a step takes away, times the learning rate; at least
            0.
        clip_norm: Longest gradient, of all weights together; 0 for no limit.
        average: How much a running mean of the weights keeps a step, in [0, 1); validation and
            saved networks use the mean. 0 for none.
    """

    kind: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.99
    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = False
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        shares = {"momentum": (self.momentum,), "betas": self.betas, "average": (self.average,)}
        for name, values in shares.items():
            demand(
                all(0 <= value < 1 for value in values),
                f"train.optimizer.{name}={getattr(self, name)} must be in [0, 1)",
            )
        for name in ("weight_decay", "clip_norm"):
            demand_amount(getattr(self, name), f"train.optimizer.{name}")
        demand(
            self.kind == "adam" or not self.amsgrad,
            "train.optimizer.amsgrad is a kind of Adam: give train.optimizer.kind=adam",
        )
