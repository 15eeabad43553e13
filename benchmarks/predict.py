"""Claim: predicting an image takes no longer than in the fastest other runtime.

704 x 520 pixels through the 2023 network (U-Net of depth 4, batch normalization; base width 16 and
64), the same weights everywhere: this project's `predict` command from file to file (after it has
started), Keras alone, the SavedModel, PyTorch (channels last), onnxruntime and OpenVINO, which get
and give arrays only. Each side runs in a process of its own that waits while others compute; they
take turns, and a ratio is the median over the rounds, of neighbors in time. All must agree on the
probabilities to 1e-4. `python benchmarks/predict.py [--rounds 2] [--width 16]`

    ratio predict_vs_fastest_W      the fastest other's time over the command's that writes masks
    ratio command_all_vs_fastest_W  likewise, over the command's with all its default files
    ratio predict_vs_fastest        geometric mean over the widths
    ratio tiles_vs_whole            whole image over tiles, per pixel that the network sees: what
                                    cutting, joining and smaller windows cost beside the context
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
from environment import run_in_environment

HEIGHT, WIDTH = 520, 704
WIDTHS = (16, 64)
OTHERS = ("saved_model", "pytorch", "onnxruntime", "openvino")
SIDES = ("command", "command_all", "keras", "tiles", *OTHERS)
# So many images a turn, by width.
IMAGES_A_TURN = {16: 6, 64: 1}
TILE = 256
DEPTH, EPSILON = 4, 1e-5
REQUIREMENTS = ["torch==2.13.0", "onnx==1.23.2", "onnxruntime==1.32.0", "openvino==2026.4.1"]

Predict = Callable[[], np.ndarray]


def image() -> np.ndarray:
    """Blobs of the sizes of cells, uint8 (H, W)."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(size=(HEIGHT, WIDTH)), 5)
    return np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)


def prepare(folder: Path) -> None:
    """Write the network of each width as Keras file, SavedModel, weights and ONNX, and images."""
    import keras
    import torch
    from PIL import Image

    from unet_keras.inference.serving import export_saved_model
    from unet_keras.model.unet import build_unet

    (folder / "images").mkdir()
    for number in range(max(IMAGES_A_TURN.values())):
        shifted = np.roll(image(), 37 * number, axis=1)
        Image.fromarray(shifted).save(folder / f"images/{number}.png")
    for width in WIDTHS:
        keras.utils.set_random_seed(0)
        model = build_unet(base_filters=width, mean=128.0, scale=40.0)
        give_statistics(model)
        model.save(folder / f"{width}.keras")
        export_saved_model(model, folder / f"{width}.saved_model", metadata={})
        weights = {f"{x.name}/{k}": w for x in model.layers for k, w in enumerate(x.get_weights())}
        np.savez(folder / f"{width}.npz", **weights)
        example = torch.zeros(1, 1, HEIGHT, WIDTH)
        torch.onnx.export(
            torch_network(folder / f"{width}.npz"), (example,), str(folder / f"{width}.onnx"),
            dynamo=False, input_names=["image"],
        )  # fmt: skip


def give_statistics(model: Any) -> None:
    """Give normalizations statistics as after training: what is 0 or 1 costs some runtimes less."""
    import keras

    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(generator.normal(0, 0.3, shape))
            layer.moving_variance.assign(generator.uniform(0.5, 2, shape))


def torch_network(file: Path) -> Any:
    """Build the network in PyTorch, from the weights of Keras: float (1, 1, H, W), grey values."""
    import torch
    from torch import nn
    from torch.nn import functional

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in np.load(file).items():
                value = torch.from_numpy(array)
                # Keras has channels last, in kernels too.
                value = value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value
                self.register_buffer(name.replace("/", "_"), value)

        def get(self, name: str) -> list[Any]:
            return [v for k, v in self.named_buffers() if k.rpartition("_")[0] == name]

        def block(self, x: Any, name: str) -> Any:
            for step in (1, 2):
                x = functional.conv2d(x, *self.get(f"{name}_conv_{step}"), padding=1)
                gamma, beta, mean, variance = self.get(f"{name}_norm_{step}")
                x = functional.batch_norm(x, mean, variance, gamma, beta, eps=EPSILON)
                x = functional.relu(x)
            return x

        def forward(self, x: Any) -> Any:
            # 520 is no multiple of 16: mirrored below and to the right, as Keras does it.
            below, right = -HEIGHT % 2**DEPTH, -WIDTH % 2**DEPTH
            x = functional.pad((x - 128.0) / 40.0, (0, right, 0, below), mode="reflect")
            skips = []
            for level in range(1, DEPTH + 1):
                x = self.block(x, f"down_{level}")
                skips.append(x)
                x = functional.max_pool2d(x, 2)
            x = self.block(x, "bottleneck")
            for level in range(DEPTH, 0, -1):
                kernel, bias = self.get(f"up_{level}_transpose")
                up = functional.conv_transpose2d(x, kernel, bias, stride=2)
                x = self.block(torch.cat([skips.pop(), up], dim=1), f"up_{level}")
            x = functional.conv2d(x, *self.get("logits"))
            return torch.sigmoid(x)[:, :, :HEIGHT, :WIDTH]

    return UNet().eval()


def predictor(side: str, width: int, folder: Path) -> Callable[[int], np.ndarray]:
    """Return a function that predicts so many images and returns the last probabilities (H, W)."""
    picture = image()
    if side.startswith("command") or side in ("keras", "tiles", "saved_model"):
        return ours(side, width, folder, picture)
    batch = picture[None, None].astype(np.float32)
    if side == "pytorch":
        import torch

        torch.set_num_threads(os.cpu_count() or 1)
        network = torch_network(folder / f"{width}.npz").to(memory_format=torch.channels_last)
        tensor = torch.from_numpy(batch).to(memory_format=torch.channels_last)

        def run_torch() -> np.ndarray:
            with torch.inference_mode():
                return network(tensor).numpy()

        return repeated(run_torch)
    if side == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        session = onnxruntime.InferenceSession(folder / f"{width}.onnx", options)
        return repeated(lambda: session.run(None, {"image": batch})[0])
    import openvino

    # In float32 like the others: left alone, it takes bfloat16 where the processor has it.
    options_of_cpu = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(folder / f"{width}.onnx", "CPU", options_of_cpu)
    return repeated(lambda: compiled(batch)[0])


def ours(side: str, width: int, folder: Path, picture: np.ndarray) -> Callable[[int], np.ndarray]:
    """The sides that are this project's."""
    from unet_keras.inference.loading import open_predictor
    from unet_keras.inference.pictures import find_pictures
    from unet_keras.inference.segmenting import DEFAULT_OUTPUTS, Segmenter, segment_pictures

    form = "saved_model" if side == "saved_model" else "keras"
    opened = open_predictor(folder / f"{width}.{form}")
    if not side.startswith("command"):
        tile = TILE if side == "tiles" else None
        return repeated(lambda: opened(picture, tile=tile))
    write = DEFAULT_OUTPUTS if side == "command_all" else ("mask",)
    pictures = find_pictures([str(folder / "images")])
    output = folder / f"out-{side}-{width}"

    probabilities = opened(picture)[..., 0]  # before any time is taken

    def run(images: int) -> np.ndarray:
        segment_pictures(pictures[:images], Segmenter(opened, 1), output, write=write)
        return probabilities

    return run


def repeated(predict: Predict) -> Callable[[int], np.ndarray]:
    """Let a prediction be made so many times."""

    def run(images: int) -> np.ndarray:
        for _ in range(images):
            last = predict()
        return np.reshape(last, (HEIGHT, WIDTH))

    return run


def work(side: str, folder: Path) -> None:
    """Answer each width on standard input with the seconds an image, measured here."""
    functions: dict[int, Callable[[int], np.ndarray]] = {}
    for line in sys.stdin:
        width = int(line)
        if width not in functions:
            functions[width] = predictor(side, width, folder)
            np.save(folder / f"{side}-{width}.npy", functions[width](1))
        begun = time.perf_counter()
        functions[width](IMAGES_A_TURN[width])
        seconds = (time.perf_counter() - begun) / IMAGES_A_TURN[width]
        print(f"seconds {seconds}", flush=True)


def start(side: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a side's process, which waits to be asked."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [sys.executable, __file__, "--work", side, "--folder", str(folder)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def ask(process: "subprocess.Popen[str]", width: int) -> float:
    """Let a side predict its images of a width; return its seconds an image."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{width}\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("seconds "):
            return float(line.split()[1])
    raise RuntimeError(f"{process.args} ended")


def seen_pixels(width: int, tile: int | None) -> int:
    """How many pixels the network sees in all windows of an image."""
    from unet_keras.inference.windows import plan_windows
    from unet_keras.model.geometry import geometry_of
    from unet_keras.model.unet import build_unet

    geometry = geometry_of(build_unet(base_filters=1))
    sides = [plan_windows(side, tile or side, geometry) for side in (HEIGHT, WIDTH)]
    return sum(row.length * column.length for row in sides[0] for column in sides[1])


def main() -> int:
    """Measure all sides in turns and print tables and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--width", type=int, choices=WIDTHS, help="one only")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.folder)
        return 0
    if arguments.prepare:
        prepare(arguments.folder)
        return 0
    run_in_environment("predict", REQUIREMENTS)
    widths = [arguments.width] if arguments.width else WIDTHS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        line = [sys.executable, __file__, "--prepare", "--folder", name]
        subprocess.run(line, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        processes = {side: start(side, folder) for side in SIDES}
        try:
            ratios = [compare(processes, width, arguments.rounds, folder) for width in widths]
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    print(f"ratio predict_vs_fastest {geometric_mean(one[0] for one in ratios):.3f}")
    print(f"ratio tiles_vs_whole {geometric_mean(one[1] for one in ratios):.3f}")
    return 0


def compare(
    processes: "dict[str, subprocess.Popen[str]]", width: int, rounds: int, folder: Path
) -> tuple[float, float]:
    """Print a table of one width; return the ratios of the command and of tiles."""
    for side in SIDES:
        ask(processes[side], width)  # compiles, fills caches
    maps = {side: np.load(folder / f"{side}-{width}.npy") for side in SIDES}
    worst = max(float(np.abs(each - maps["keras"]).max()) for each in maps.values())
    assert worst < 1e-4, f"the sides do not agree: {worst}"
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            times[side].append(ask(processes[side], width))
    medians = {side: median(values) for side, values in times.items()}
    print(f"\nbase width {width}, ms an image; probabilities agree to {worst:.0e}")
    for side, seconds in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{side:>12} {1e3 * seconds:9.1f}")
    fastest = min(OTHERS, key=lambda side: medians[side])
    for side in ("command", "command_all", "keras"):
        ratio = median(a / b for a, b in zip(times[fastest], times[side], strict=True))
        label = "predict_vs_fastest" if side == "command" else f"{side}_vs_fastest"
        print(f"ratio {label}_{width} {ratio:.3f}  ({fastest})")
        if side == "command":
            of_command = ratio
    share = seen_pixels(width, TILE) / seen_pixels(width, None)
    tiles = median(share * a / b for a, b in zip(times["keras"], times["tiles"], strict=True))
    print(f"tiles of {TILE} show the network {share:.2f} times the pixels")
    return of_command, tiles


if __name__ == "__main__":
    sys.exit(main())
