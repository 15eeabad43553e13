"""Samples drawn on the spot, importable where worker processes unpickle them.

`python -m tests.records.examples PATH WORKERS COUNT SECONDS` converts COUNT of them, each taking so
many seconds, for tests that kill it.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from unet_keras.errors import InputError
from unet_keras.records.writer import write_records
from unet_keras.sources.base import Sample, SampleReference


@dataclass(frozen=True)
class DrawnReference(SampleReference):
    """Discs on noise; what `trouble` says happens when it is loaded."""

    seed: int = 0
    size: tuple[int, int] = (40, 56)
    dtype: str = "uint8"
    channels: int = 1
    classes: int = 1
    seconds: float = 0.0
    trouble: str = ""
    journal: str = ""

    def load(self) -> Sample:
        if self.journal:
            with Path(self.journal).open("a") as file:
                file.write(f"{self.image_id}\n")
        time.sleep(self.seconds)
        if self.trouble == "damaged":
            raise InputError(f"{self.file_name} is damaged; fetch it again.")
        if self.trouble == "dies":
            os._exit(9)
        rng = np.random.default_rng(self.seed)
        shape = self.size if self.channels == 1 else (*self.size, self.channels)
        image = rng.integers(0, 255, shape).astype(self.dtype)
        count = int(rng.integers(2, 6))
        outlines = [self._disc(rng) for _ in range(count)]
        classes = rng.integers(1, self.classes, count, np.uint8, endpoint=True)
        texts = (self.image_id, self.file_name, self.split, self.group)
        return Sample(*texts, image=image, outlines=tuple(outlines), classes=classes)

    def _disc(self, rng: np.random.Generator) -> bytes:
        y, x = np.indices(self.size)
        center = rng.uniform(0, self.size)
        inside = np.hypot(y - center[0], x - center[1]) < rng.uniform(4, 12)
        return coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"]


def drawn(counts: dict[str, int], *, first: int = 0, **named: object) -> list[DrawnReference]:
    """References of so many images a split; seeds and ids count through, from the first on."""
    splits = [split for split, count in counts.items() for _ in range(count)]
    return [
        DrawnReference(f"{k}", f"{'AB'[k % 2]}_{k}.png", split, "AB"[k % 2], seed=k, **named)
        for k, split in enumerate(splits, first)
    ]


def main() -> None:
    path, workers, count, seconds = sys.argv[1:]
    print("ready", flush=True)  # noqa: T201
    write_records(
        drawn({"train": int(count), "test": 3}, seconds=float(seconds)),
        path,
        workers=int(workers),
        shard_images=20,
    )


if __name__ == "__main__":
    main()
