"""The phases of a run, one after the other: how long each is, what it sees and how fast it learns.

A run counts batches ("steps") from 0 over all its phases. The learning rate depends on the step
within the phase alone, so that resuming needs no more state than the step.
"""

import math
from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Stretch:
    """One phase with all that the config left to defaults filled in.

    Attributes:
        name: How messages call it.
        steps: Its length in batches.
        steps_per_epoch: Batches between two validations; the last epoch may be shorter.
        augment: `none` takes random crops as they are, `replace` transforms each, `append` has each
            batch of plain crops followed by the same crops transformed.
        learning_rate: At its start, after the warm-up; above 0.
        schedule: `constant`, `exponential` to fall by the same share each step, or `cosine` to fall
            along half a cosine.
        final_share: What is left of the rate at its end, as a share of it in [0, 1].
        warmup_steps: Batches in which the rate rises evenly from zero.
        optimizer: `keep` or `reset` what the optimizer gathered before.
        cross_entropy: Factor of the pixel-weighted cross-entropy.
        dice: Factor of the Dice loss.
        distance: Factor of the distance map's loss.
        border_weight: w0, the weight of a pixel squeezed between two instances.
        patience: Epochs without a better score after which it ends early; 0 for never.
        normalize: What an image's weighted cross-entropies are divided by.
        joined: Whether metrics take all foreground classes for one.
    """

    name: str
    steps: int
    steps_per_epoch: int
    augment: Literal["none", "replace", "append"] = "replace"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "exponential", "cosine"] = "cosine"
    final_share: float = 0.0
    warmup_steps: int = 0
    optimizer: Literal["keep", "reset"] = "keep"
    cross_entropy: float = 1.0
    dice: float = 1.0
    distance: float = 0.0
    border_weight: float = 0.0
    patience: int = 0
    normalize: Literal["weights", "pixels", "none"] = "weights"
    joined: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs it has if nothing ends it early."""
        return -(-self.steps // self.steps_per_epoch)

    @property
    def factors(self) -> tuple[float, ...]:
        """Of cross-entropy, Dice loss and the distance map's, each at least 0."""
        return self.cross_entropy, self.dice, self.distance

    def rate(self, step: int) -> float:
        """Return the rate of one of its steps, counted from 0; at most `learning_rate`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        share = min((step - self.warmup_steps) / (self.steps - self.warmup_steps), 1.0)
        if self.schedule == "exponential":
            return self.learning_rate * self.final_share**share
        fall = 0.5 * (1.0 + math.cos(math.pi * share))
        return self.learning_rate * (self.final_share + (1.0 - self.final_share) * fall)

    def next_epochs(self, step: int) -> tuple[int, int]:
        """Return how many epochs of equal length come next, and their length in batches.

        Args:
            step: Batches of it that are done.
        """
        left = self.steps - step
        if left >= self.steps_per_epoch:
            return left // self.steps_per_epoch, self.steps_per_epoch
        return 1, left

    def data_position(self, run_step: int, step: int) -> int:
        """Return which batch of the training data a step sees.

        Args:
            run_step: The step, counted over the run.
            step: The same step, counted within the phase.
        """
        return run_step - step + step // 2 if self.augment == "append" else run_step


def steps_to_cover(pixels: int, crop: tuple[int, int], batch_size: int) -> int:
    """Return how many batches have as many pixels as all training images together, at least 1.

    Args:
        pixels: Sum of height times width over the images.
        crop: Height and width of a crop in pixels.
        batch_size: Crops a batch.
    """
    return max(1, round(pixels / (crop[0] * crop[1] * batch_size)))


def reset_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Make an optimizer forget gradients and steps, and a loss scale its doubling.

    The scale itself stays: it says what the network's gradients bear, not what they were.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    kept = {id(inner.learning_rate)}
    if inner is not optimizer and optimizer.built:
        kept.add(id(optimizer.dynamic_scale))
    for variable in optimizer.variables:
        if id(variable) not in kept:
            variable.assign(keras.ops.zeros_like(variable))
