"""What every peer reads and writes, so that all are trained and measured alike.

    FOLDER/train/images/NAME.tif   uint8 (H, W)    grey values
    FOLDER/train/labels/NAME.tif   uint16 (H, W)   0 background, 1..n instances
    FOLDER/test/images/NAME.tif    uint8 (H, W)    images to segment, never looked at before
    FOLDER/records/                the same images as records, for this project's own networks
    OUTPUT/NAME.tif                uint16 (H, W)   the instances that the peer found

A peer is a script: `python PEER.py FOLDER OUTPUT --cpu-seconds S --seed N [--variant V]`. Its last
line of output is JSON: `steps`, `cpu_seconds` and `seconds` of training, and of an image, from
grey values to instances, `image_seconds` and `image_cpu_seconds`.

Needs NumPy and tifffile only: some peers run in environments of their own.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import tifffile

# Share of the time in which the learning rate rises.
WARM_UP = 0.05


def parse(variants: Sequence[str] = ("",), parser: argparse.ArgumentParser | None = None):
    """Read a peer's command line."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cpu-seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    return parser.parse_args()


class Budget:
    """The processor's time that training may take, all threads together.

    The clock starts with the second step: the first one compiles, which takes as long for a short
    training as for a long one.
    """

    def __init__(self, cpu_seconds: float) -> None:
        self.cpu_seconds = cpu_seconds
        self.steps = -1
        self._begun = self._begun_cpu = 0.0

    def step(self) -> bool:
        """Count a step that is done; return whether the time is up."""
        if self.steps < 0:
            self._begun, self._begun_cpu = time.perf_counter(), time.process_time()
        self.steps += 1
        return self.share >= 1

    @property
    def share(self) -> float:
        """What is used up of the time, in [0, 1]."""
        if self.steps < 0:
            return 0.0
        return min((time.process_time() - self._begun_cpu) / self.cpu_seconds, 1.0)

    def rate(self) -> float:
        """The learning rate's share now: it rises evenly, then falls along half a cosine."""
        rise = min((self.share + 1e-3) / WARM_UP, 1.0)
        fall = 0.5 + 0.5 * np.cos(np.pi * max(self.share - WARM_UP, 0) / (1 - WARM_UP))
        return float(rise * fall)

    def account(self) -> dict[str, float]:
        """What training took, for `finish`."""
        return {
            "steps": self.steps,
            "cpu_seconds": round(time.process_time() - self._begun_cpu, 1),
            "seconds": round(time.perf_counter() - self._begun, 1),
        }


def read_training(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images uint8 (H, W) and their label maps uint16 (H, W)."""
    files = sorted((folder / "train" / "images").glob("*.tif"))
    masks = [folder / "train" / "labels" / file.name for file in files]
    return [tifffile.imread(file) for file in files], [tifffile.imread(file) for file in masks]


def finish(
    folder: Path,
    output: Path,
    segment: Callable[[np.ndarray], np.ndarray],
    account: dict[str, float],
) -> None:
    """Segment the test images, write what is found, and print the account.

    Args:
        folder: As above.
        output: Made where it is absent.
        segment: From an image (H, W) to instances, integer (H, W).
        account: What training took.
    """
    output.mkdir(parents=True, exist_ok=True)
    wall, cpu = [], []
    for file in sorted((folder / "test" / "images").glob("*.tif")):
        image = tifffile.imread(file)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        labels = segment(image)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
        tifffile.imwrite(output / file.name, labels.astype(np.uint16))
    # Of all but the first image, which compiles.
    times = {
        "image_seconds": round(median(wall[1:] or wall), 3),
        "image_cpu_seconds": round(median(cpu[1:] or cpu), 3),
    }
    print(json.dumps({**account, **times}))
