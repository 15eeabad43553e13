"""Claim: that runs repeat bit by bit (`train.deterministic`, the default) costs next to nothing.

The default network trains on synthetic cells, with the switch on and off, in turns, each time in a
process of its own, because it cannot be turned off again. Compared are images a second as
TensorBoard shows them, without each run's first epoch. `python benchmarks/deterministic.py`

    ratio deterministic_vs_free  images a second with it over those without, of medians
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

EPOCHS, STEPS = 4, 8
VALUES = ("true", "false")


def train(folder: Path, deterministic: str) -> None:
    """Train and print images a second and the share of waiting for input, one pair an epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    from unet_keras import config
    from unet_keras.records.conversion import convert
    from unet_keras.training import fit

    run = folder / deterministic / str(os.getpid())
    configuration = config.load(
        overrides=[
            "source.counts=[12, 2, 1]", f"records.path={folder / 'records'}",
            f"train.run_dir={run}", f"train.deterministic={deterministic}",
            f"train.phases=[{{epochs: {EPOCHS}}}]", f"train.steps_per_epoch={STEPS}",
            "train.panel_epochs=0",
        ]
    )  # fmt: skip
    convert(configuration)
    fit.train(configuration)
    events = EventAccumulator(str(run / "tensorboard" / "train"))
    events.Reload()
    tensors = [
        events.Tensors(f"speed/{name}") for name in ("images_per_second", "input_wait_share")
    ]
    print(json.dumps([[float(make_ndarray(e.tensor_proto)) for e in t[1:]] for t in tensors]))


def main() -> int:
    """Train with and without the switch in turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        train(Path(arguments.work[0]), arguments.work[1])
        return 0
    rates: dict[str, list[float]] = {value: [] for value in VALUES}
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            for value in VALUES if turn % 2 else VALUES[::-1]:
                command = [sys.executable, __file__, "--work", folder, value]
                result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found, waited = json.loads(result.stdout.splitlines()[-1])
                rates[value] += found
                waits += waited
    for value in VALUES:
        print(f"train.deterministic={value:<6} {median(rates[value]):6.2f} images a second")
    print(f"waiting for input: {median(waits):.1%} of the time, at most {max(waits):.1%}")
    print(f"ratio deterministic_vs_free {median(rates['true']) / median(rates['false']):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
