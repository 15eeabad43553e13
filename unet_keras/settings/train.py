"""The course of training, in phases."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unet_keras.settings.augment import Mode
from unet_keras.settings.checks import demand, demand_amount, demand_positive
from unet_keras.settings.optimizer import Optimizer


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Attributes:
        epochs: Its length, at least 1.
        steps: Its length in batches instead; 0 for `epochs`.
        augment: In place of `augment.mode`, if given: none, replace or append.
        learning_rate: At its start, after the warm-up; above 0.
        schedule: Whether the rate stays, falls by the same share each step, or along half a cosine.
        final_share: What is left of the rate at its end, as a share of it in [0, 1].
        warmup_steps: Batches in which the rate rises evenly from zero, at least 0.
        optimizer: Whether what the optimizer gathered before is kept or reset at its start.
        cross_entropy: In place of `loss.cross_entropy`, if given; at least 0.
        dice: In place of `loss.dice`, if given; at least 0.
        border_weight: In place of `loss.border_weight`, if given; at least 0.
        patience: Epochs without a better `train.monitor` after which it ends early; 0 for never.
    """

    epochs: int = 20
    steps: int = 0
    augment: Mode | None = None
    learning_rate: float = 1e-3
    schedule: Literal["constant", "exponential", "cosine"] = "cosine"
    final_share: float = 0.0
    warmup_steps: int = 0
    optimizer: Literal["keep", "reset"] = "keep"
    cross_entropy: float | None = None
    dice: float | None = None
    border_weight: float | None = None
    patience: int = 0

    def __post_init__(self) -> None:
        demand_positive(self.epochs, "train.phases: epochs")
        demand_positive(self.learning_rate, "train.phases: learning_rate")
        amounts = ("steps", "warmup_steps", "patience", "cross_entropy", "dice", "border_weight")
        for name in amounts:
            value = getattr(self, name)
            demand_amount(0 if value is None else value, f"train.phases: {name}")
        share = f"train.phases: final_share={self.final_share}"
        demand(0 <= self.final_share <= 1, f"{share} must be in [0, 1]")
        demand(
            self.schedule != "exponential" or self.final_share > 0,
            f"{share} must be above 0 with schedule=exponential, which never reaches 0",
        )
        demand(
            self.schedule != "constant" or self.final_share == 0,
            f"{share} needs schedule=exponential or cosine: a constant rate stays as it is",
        )


@dataclass(frozen=True)
class Train:
    """The course of training.

    Attributes:
        run_dir: Folder of the run.
        start_from: Run folder or `.keras` file whose weights training starts from (fine-tuning),
            with the same `model.*` but for the classes; `default` for the network that ships
            (base_filters 32, depth 3, stride 2); empty for random ones.
        precision: Of the computation; `auto` takes what the device is fast in.
        optimizer: What turns gradients into steps, the same in all phases.
        phases: Stretches of training, one after the other; at least one.
        steps_per_epoch: Batches an epoch; 0 takes as many as cover the training images once.
        monitor: Which of the validation's figures the best checkpoint is chosen by; `last` keeps
            the last one, where a falling rate makes it the best and validation images are few.
        checkpoint_epochs: Each so many epochs a checkpoint stays for good, besides the last and the
            best; 0 for none.
        panel_epochs: TensorBoard gets pictures each so many epochs; 0 for never.
        profile_steps: TensorBoard gets a profile of so many steps of each phase's first epoch; 0
            for none. Its tab needs `pip install xprof`.
        distribute: `mirrored` splits each batch over all devices of this machine, whose number must
            divide `pipeline.batch_size`; `none` computes on the first.
        deterministic: Whether operations whose result depends on timing are ruled out.
    """

    run_dir: str = "runs/synthetic"
    start_from: str = ""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"] = "float32"
    optimizer: Optimizer = field(default_factory=Optimizer)
    phases: list[Phase] = field(default_factory=lambda: [Phase()])
    steps_per_epoch: int = 0
    monitor: Literal["val_loss", "val_dice", "val_iou", "last"] = "val_dice"
    checkpoint_epochs: int = 0
    panel_epochs: int = 5
    profile_steps: int = 0
    distribute: Literal["none", "mirrored"] = "none"
    deterministic: bool = True

    def __post_init__(self) -> None:
        demand(
            Path(self.run_dir).name not in ("", ".."),
            f"train.run_dir={self.run_dir!r} must name a folder of its own, such as runs/mine",
        )
        demand(len(self.phases) > 0, "train.phases is empty: give at least one phase")
        demand(
            self.monitor != "last" or not any(phase.patience for phase in self.phases),
            "train.monitor=last tells no epoch from another: patience must be 0, or give val_loss",
        )
        demand(
            self.distribute == "none" or not self.optimizer.clip_norm,
            f"train.optimizer.clip_norm={self.optimizer.clip_norm} would be each device's own limit"
            " with train.distribute=mirrored: give clip_norm=0, or distribute=none",
        )
        for name in ("steps_per_epoch", "panel_epochs", "checkpoint_epochs", "profile_steps"):
            value = getattr(self, name)
            demand(value >= 0, f"train.{name}={value} must be at least 0")
