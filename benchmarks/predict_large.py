"""Claim: an image of 20,000 x 20,000 pixels is segmented in under 2 GB of memory.

Writes a tiled TIFF of blobs, then runs the command in a process of its own, with a network of two
levels and four channels: probability, mask, label map, overlay and tables. Its peak memory is what
the system counted, files mapped into memory included. On the way it is killed once and goes on.
`python benchmarks/predict_large.py [--side 20000]`

    ratio memory_limit_vs_large_image  2 GB over the peak
"""

import argparse
import csv
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LIMIT_BYTES = 2e9
TILE = 512


def write_image(path: Path, side: int) -> None:
    """A texture of cells, repeated with a shift; uint8 (side, side)."""
    import tifffile
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(size=(1999, 1999)), 6, mode="wrap")
    texture = np.clip(110 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, side, TILE):
            rows = np.arange(top, top + TILE) % len(texture)
            for left in range(0, side, TILE):
                columns = np.arange(left, left + TILE) % len(texture)
                yield texture[np.ix_(rows, columns)]

    tifffile.imwrite(
        path, tiles(), shape=(side, side), dtype=np.uint8, tile=(TILE, TILE), compression="zlib",
        compressionargs={"level": 1}, photometric="minisblack", bigtiff=True,
    )  # fmt: skip


def write_network(path: Path) -> None:
    """A network that smooths a little and calls bright what is a cell."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from unet_keras.model.unet import build_unet

    model = build_unet(base_filters=4, depth=2, normalization="none", scale=255.0)
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    for name in ("down_1_conv_1", "down_1_conv_2", "up_1_conv_1", "up_1_conv_2"):
        kernel = np.zeros(model.get_layer(name).kernel.shape, np.float32)
        kernel[:, :, 0, 0] = 1 / 9
        model.get_layer(name).kernel.assign(kernel)
    logits = model.get_layer("logits")
    logits.kernel.assign(np.reshape([40.0, 0.0, 0.0, 0.0], (1, 1, 4, 1)))
    logits.bias.assign([-25.0])
    model.save(path)


def main() -> int:
    """Predict the large image and print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000, help="of the image, in pixels")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        write_image(arguments.make / "slide.tif", arguments.side)
        write_network(arguments.make / "network.keras")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own, so that its memory is not counted.
        line = [sys.executable, __file__, "--make", name, "--side", str(arguments.side)]
        subprocess.run(line, check=True, stderr=subprocess.DEVNULL)
        made = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        command = [
            sys.executable, "-m", "unet_keras.predict", str(folder / "network.keras"),
            str(folder / "slide.tif"), "--output", str(folder / "out"), "--tile", "1024",
        ]  # fmt: skip
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        raw = folder / "out/.slide.unfinished/probability.raw"
        while not (raw.exists() and raw.stat().st_size > arguments.side**2):  # a quarter of it
            assert process.poll() is None, "the command ended before it could be killed"
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = raw.stat().st_size / (4 * arguments.side**2)
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - begun
        assert "going on where it was stopped" in result.stdout
        with (folder / "out/counts.csv").open() as file:
            row = next(csv.DictReader(file))
        sizes = {path.name: path.stat().st_size for path in sorted((folder / "out").iterdir())}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{arguments.side} x {arguments.side} pixels, {row['cells']} cells")
    print(f"killed with {kept:.0%} of the probabilities done, which were kept; {seconds:.0f} s")
    for file_name, size in sizes.items():
        print(f"{size / 1e6:10.1f} MB  {file_name}")
    print(f"peak memory {peak / 1e9:.2f} GB (making the image: {made * 1024 / 1e9:.2f} GB)")
    print(f"ratio memory_limit_vs_large_image {LIMIT_BYTES / peak:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
