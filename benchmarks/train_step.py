"""Claim: a training step of the 2023 network takes no longer than in PyTorch.

The same network (DoubleConv with batch normalization, base width 16 and 32), 256 x 256 pixels,
batches of 2 and 8, weighted binary cross-entropy, Adam with AMSGrad; Keras without XLA, as in
`train`, but without its metrics and determinism, which PyTorch does not compute either; PyTorch in
its channels-last layout, which is its faster one; float32 and bfloat16. Each side runs in a process
of its own that sleeps while the other computes; they take turns, and the ratio of a round is that
of neighbors in time. Where others use the cores too, PyTorch's threads sleep while
they wait for each other: spinning, they would wait for a thread that has no core, for ten times the
step. `python benchmarks/train_step.py [--rounds 3] [--precision float32]`

    ratio train_step_vs_pytorch_float32   PyTorch's time over ours, geometric mean over the sizes
    ratio train_step_vs_pytorch_bfloat16  likewise
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from statistics import geometric_mean, median
from typing import Any

from environment import run_in_environment

SIZE = 256
WIDTHS = (16, 32)
BATCHES = (2, 8)
PRECISIONS = ("float32", "bfloat16")
# A turn computes so many images, and no fewer than two steps.
IMAGES_A_TURN = 8
SIDES = ("keras", "pytorch")

Step = Callable[[], None]
Case = tuple[int, int]


def keras_steps(precision: str) -> dict[Case, tuple[Step, int]]:
    """Return a step and the number of trainable weights for each width and batch size."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    import tensorflow as tf

    from unet_keras.model.losses import WeightedCrossEntropy
    from unet_keras.model.unet import build_unet
    from unet_keras.training.optimizers import build_optimizer

    keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
    steps: dict[Case, tuple[Step, int]] = {}
    for width, batch in product(WIDTHS, BATCHES):
        model = build_unet(base_filters=width)
        model.compile(
            build_optimizer(1e-3, amsgrad=True), WeightedCrossEntropy("pixels"), jit_compile=False
        )
        image, truth, weight = pictures(batch)
        y = np.stack([truth, weight], axis=-1)
        data = tf.data.Dataset.from_tensors((image[..., None], y)).cache().repeat()
        model.make_train_function()
        iterator = iter(data)
        count = sum(math.prod(variable.shape) for variable in model.trainable_weights)

        def step(function: Any = model.train_function, iterator: Any = iterator) -> None:
            float(function(iterator)["loss"])

        steps[width, batch] = step, count
    return steps


def pytorch_steps(precision: str) -> dict[Case, tuple[Step, int]]:
    """Return a step and the number of trainable weights for each width and batch size."""
    import torch
    from pytorch_unet import training_step

    torch.set_num_threads(os.cpu_count() or 1)
    return {
        (width, batch): training_step(width, *pictures(batch), precision)
        for width, batch in product(WIDTHS, BATCHES)
    }


def pictures(batch: int) -> tuple[Any, Any, Any]:
    """Return images, truth and weights, float32 (B, H, W)."""
    import numpy as np

    random = np.random.default_rng(0)
    image = random.normal(size=(batch, SIZE, SIZE)).astype("float32")
    weight = random.uniform(0.5, 2, image.shape).astype("float32")
    return image, (image > 0.5).astype("float32"), weight


def work(side: str, precision: str) -> None:
    """Compute a turn for each line that comes, `WIDTH BATCH`; answer with seconds a step."""
    steps = (keras_steps if side == "keras" else pytorch_steps)(precision)
    for line in sys.stdin:
        width, batch = map(int, line.split())
        step, count = steps[width, batch]
        turns = max(2, IMAGES_A_TURN // batch)
        used, start = cpu_seconds(), time.perf_counter()
        for _ in range(turns):
            step()
        wall, cpu = time.perf_counter() - start, cpu_seconds() - used
        print(json.dumps({"wall": wall / turns, "cpu": cpu / turns, "count": count}), flush=True)


def cpu_seconds() -> float:
    """Return what all threads of this process have used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def start(side: str, precision: str) -> "subprocess.Popen[str]":
    """Start one side."""
    command = [sys.executable, __file__, "--work", side, precision]
    busy = os.getloadavg()[0] > 0.5
    return subprocess.Popen(
        command,
        env=os.environ | ({"OMP_WAIT_POLICY": "passive"} if busy else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if side == "keras" else None,  # TensorFlow's greetings
        text=True,
    )


def ask(process: "subprocess.Popen[str]", case: Case) -> dict[str, float]:
    """Let one side take its turn."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("{} {}\n".format(*case))
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def compare(precision: str, rounds: int) -> float:
    """Print a row for each size; return the geometric mean of the ratios."""
    processes = {side: start(side, precision) for side in SIDES}
    ratios = []
    for case in product(WIDTHS, BATCHES):
        warm = {side: ask(process, case) for side, process in processes.items()}
        assert warm["keras"]["count"] == warm["pytorch"]["count"], "these are two networks"
        turns: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(rounds):
            for side in SIDES if number % 2 else SIDES[::-1]:
                turns[side].append(ask(processes[side], case))
        wall, cpu = (
            {side: median(turn[clock] for turn in turns[side]) for side in SIDES}
            for clock in ("wall", "cpu")
        )
        pairs = zip(turns["pytorch"], turns["keras"], strict=True)
        ratio = median(theirs["wall"] / ours["wall"] for theirs, ours in pairs)
        ratios.append(ratio)
        print(
            f"| {precision} | {case[0]} | {case[1]} | {1e3 * wall['keras']:.0f} | "
            f"{1e3 * wall['pytorch']:.0f} | {ratio:.2f} | {cpu['pytorch'] / cpu['keras']:.2f} |",
            flush=True,
        )
    for process in processes.values():
        process.communicate()
    return geometric_mean(ratios)


def main() -> None:
    """Time both sides in turns and print table and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, help="one only")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work)
        return
    run_in_environment("train_step", ["torch==2.13.0"])
    print("| precision | base width | batch | Keras, ms a step | PyTorch, ms a step | "
          "PyTorch / Keras | in CPU seconds |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    chosen = [arguments.precision] if arguments.precision else PRECISIONS
    results = {precision: compare(precision, arguments.rounds) for precision in chosen}
    for precision, ratio in results.items():
        print(f"ratio train_step_vs_pytorch_{precision} {ratio:.3f}")


if __name__ == "__main__":
    main()
