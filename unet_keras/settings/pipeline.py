"""How batches are made."""

from dataclasses import dataclass

from unet_keras.settings.checks import Pair, demand_positive


@dataclass(frozen=True)
class Pipeline:
    """How batches are made.

    Attributes:
        crop: Height and width in pixels of what the network sees in training.
        batch_size: Images a batch, at least 1.
        cache: Whether decoded records stay in memory.
    """

    crop: Pair = (256, 256)
    batch_size: int = 4
    cache: bool = True

    def __post_init__(self) -> None:
        demand_positive(min(self.crop), "pipeline.crop")
        demand_positive(self.batch_size, "pipeline.batch_size")
