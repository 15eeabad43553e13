"""Converting LIVECell-like data: how fast, where the time goes, and in how much memory.

    python benchmarks/convert.py                                          all of it, minutes
    python benchmarks/convert.py --images 48 --json-images 160 --instances 50000     a quick look

Speed: images of LIVECell's size and kind with 300 instances each, on two processes. The result
must be the same, byte for byte, as from one process.

Memory: JSON files of LIVECell's size (1,000,000 instances on 3,200 images). One side converts all
of it to records; the other only loads the files with `pycocotools.coco.COCO`. What is compared is
the most private memory that a side had resident at any time, summed over its processes.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from unet_keras.records import parts
from unet_keras.records.build import TargetSettings, warm_up
from unet_keras.records.writer import write_records
from unet_keras.sources import coco

SHAPE = (520, 704)  # height and width of LIVECell's images
SPLITS = {"train": 0.6, "val": 0.1, "test": 0.3}  # of LIVECell's images, about
INSTANCES = 300  # an image, where speed is measured
POOL = 24  # images and sets of outlines that differ
WORKERS = 2
STAGES = ("decode", "read JSON", "rasterize", "border", "count", "encode", "write")


def draw_outlines(rng: np.random.Generator, count: int) -> list[str]:
    """Annotations of cells that touch and overlap, as JSON without their ids; 600 bytes each."""
    height, width = SHAPE
    rows = math.ceil(math.sqrt(count * height / width))
    columns = math.ceil(count / rows)
    pitch = math.sqrt(height * width / rows / columns)
    texts = []
    for place in rng.permutation(rows * columns)[:count].tolist():
        center = (np.array(divmod(place, columns)) + rng.normal(0.5, 0.35, 2)) * pitch
        angles = np.linspace(0, 2 * np.pi, int(rng.integers(20, 38)), endpoint=False)
        waves = sum(rng.normal(0, 0.13) * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5))
        radii = pitch * rng.uniform(0.3, 0.45) * (1 + waves)
        x = np.clip(center[1] + radii * np.cos(angles) * 1.15, 0, width).round(2)
        y = np.clip(center[0] + radii * np.sin(angles), 0, height).round(2)
        box = [x.min(), y.min(), x.max() - x.min(), y.max() - y.min()]
        fields = {
            "segmentation": [np.stack([x, y], axis=1).ravel().tolist()],
            "area": float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2),
            "bbox": [float(value) for value in box],
            "iscrowd": 0,
        }
        texts.append(json.dumps(fields)[1:])
    return texts


def write_data(folder: Path, images: int, instances: int) -> None:
    """Write TIFF images and the three JSON files in LIVECell's layout."""
    (folder / "images" / "pool").mkdir(parents=True)
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(0)
    each = math.ceil(instances / images)
    pool = [draw_outlines(rng, each) for _ in range(min(POOL, images))]
    for k in range(len(pool)):
        texture = gaussian_filter(rng.normal(0, 32, SHAPE), 0.9)
        path = folder / "images" / "pool" / f"{k}.tif"
        pixels = np.clip(128 + texture, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, compression="tiff_lzw", tiffinfo={317: 2})
    number = 0
    for split, share in SPLITS.items():
        count = round(images * share) if split != "test" else images - number
        listed = [number + k for k in range(count)]
        number += count
        with (folder / "annotations" / f"livecell_coco_{split}.json").open("w") as file:
            heads = [_image_entry(folder, k) for k in listed]
            categories = '[{"id": 1, "name": "cell"}]'
            file.write(f'{{"images": {json.dumps(heads)}, "categories": {categories}, ')
            file.write('"annotations": [')
            first = True
            for k in listed:
                count = (k + 1) * instances // images - k * instances // images
                for n, text in enumerate(pool[k % len(pool)][:count]):
                    comma = "" if first else ", "
                    first = False
                    file.write(
                        f'{comma}{{"id": {k * 5000 + n + 1}, "image_id": {k * 5000}, '
                        f'"category_id": 1, {text}'
                    )
            file.write("]}")


def _image_entry(folder: Path, k: int) -> dict[str, Any]:
    """Describe an image, and let its name stand for one of the pool."""
    name = f"A172_Phase_{k}.tif"
    os.link(folder / "images" / "pool" / f"{k % POOL}.tif", folder / "images" / name)
    return {"id": k * 5000, "width": SHAPE[1], "height": SHAPE[0], "file_name": name}


def convert(data: Path, path: Path, workers: int, **named: Any) -> None:
    """Convert the data set with so many processes."""
    references = coco.coco_references(data / "images", data / "annotations")
    write_records(references, path, workers=workers, **named)


class CpuStopwatch(parts.Stopwatch):
    """Measures processor time: what else the machine does should not count."""

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - start


def timed(function: Callable[..., Any], stage: str, clock: CpuStopwatch) -> Callable[..., Any]:
    """Let a function add its seconds to a stage of the clock."""

    def call(*args: Any, **named: Any) -> Any:
        with clock(stage):
            return function(*args, **named)

    return call


def stage_seconds(data: Path, path: Path) -> dict[str, float]:
    """Convert in this process; return the processor time of each stage."""
    clock, seconds = CpuStopwatch(), {}
    kept = (parts.Stopwatch, coco.read_image, coco.read_annotations, coco.trace_outlines)
    parts.Stopwatch = CpuStopwatch
    coco.read_image = timed(coco.read_image, "decode", clock)
    coco.read_annotations = timed(coco.read_annotations, "read JSON", clock)
    coco.trace_outlines = timed(coco.trace_outlines, "rasterize", clock)
    try:
        convert(data, path, 1, seconds=seconds)
    finally:
        parts.Stopwatch, coco.read_image, coco.read_annotations, coco.trace_outlines = kept
    found = Counter(clock.seconds) + Counter({"rasterize": seconds["labels"]})
    return {stage: found.get(stage, seconds.get(stage, 0.0)) for stage in STAGES}


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of each file of the records, by name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.glob("*.*")}


def processor_seconds() -> float:
    """The processor's time of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure_speed(folder: Path, images: int) -> float | None:
    """Print how fast images are converted; return images a second, None if bytes differ."""
    data = folder / "speed"
    write_data(data, images, images * INSTANCES)
    # One process first, so that what compiles once a machine is compiled.
    warm_up(TargetSettings())
    stages = stage_seconds(data, folder / "one")
    cpu, start = processor_seconds(), time.perf_counter()
    convert(data, folder / "two", WORKERS)
    seconds, cpu = time.perf_counter() - start, processor_seconds() - cpu
    print(f"{images} images of {SHAPE[1]}x{SHAPE[0]} with {INSTANCES} instances each")
    total = sum(stages.values())
    for stage, value in stages.items():
        print(f"  {stage:<10}{1e3 * value / images:8.1f} ms an image {value / total:6.0%}")
    print(f"  {'together':<10}{1e3 * total / images:8.1f} ms of processor time, one process")
    print(
        f"{WORKERS} processes: {seconds:.1f} s, {images / seconds:.1f} images a second, "
        f"{1e3 * cpu / images:.1f} ms of processor time an image with starting them; "
        f"3,200 images take {3200 * seconds / images / 60:.1f} minutes"
    )
    if digests(folder / "one") != digests(folder / "two"):
        print("error: one and two processes wrote different bytes", file=sys.stderr)
        return None
    print(f"1 and {WORKERS} processes wrote the same bytes")
    return images / seconds


def run_side(side: str, data: Path, path: Path) -> None:
    """What one side's process does; it ends with its seconds of loading."""
    start, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        if side == "ours":
            references = coco.coco_references(data / "images", data / "annotations")
        else:
            from pycocotools.coco import COCO  # here: it brings matplotlib into every process

            loaded = [COCO(str(file)) for file in sorted((data / "annotations").iterdir())]
            references = [image for one in loaded for image in one.loadImgs(one.getImgIds())]
    loading = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    start = time.perf_counter()
    if side == "ours":
        write_records(references, path, workers=WORKERS)
    print(json.dumps({**loading, "images": len(references), "rest": time.perf_counter() - start}))


def private_bytes(pid: int) -> int:
    """Private resident memory of a process and all its descendants."""
    total = 0
    with contextlib.suppress(OSError):  # it ended in between
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += 1024 * int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += private_bytes(int(child))
    return total


def watch_side(side: str, data: Path, path: Path) -> dict[str, float]:
    """Run one side in a process of its own; return its figures and its peak of memory."""
    command = [sys.executable, __file__, "--side", side, str(data), str(path)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, private_bytes(process.pid))
            time.sleep(0.1)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"error: the side {side!r} failed")
    return {**json.loads(output.splitlines()[-1]), "peak": peak}


def measure_memory(folder: Path, images: int, instances: int) -> float:
    """Print what a large JSON takes; return by how much pycocotools takes more."""
    data = folder / "large"
    write_data(data, images, instances)
    size = sum(file.stat().st_size for file in (data / "annotations").iterdir())
    print(f"\n{instances:,} instances on {images:,} images, {size / 1e6:,.0f} MB of JSON")
    sides = {side: watch_side(side, data, folder / "large-records") for side in ("ours", "theirs")}
    names = {"ours": "unet_keras, whole conversion", "theirs": "pycocotools, loading alone"}
    for side, found in sides.items():
        print(
            f"  {names[side]:<30}{found['peak'] / 1e6:8,.0f} MB at most; loading took "
            f"{found['seconds']:.1f} s ({found['cpu']:.1f} s of processor time)"
        )
    rest = sides["ours"]["rest"]
    print(f"  converting took {rest:.0f} s, {images / rest:.1f} images a second")
    return sides["theirs"]["peak"] / sides["ours"]["peak"]


def main() -> int:
    """Measure speed and memory and print tables and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=240, help="for speed")
    parser.add_argument("--json-images", type=int, default=3200, help="for memory")
    parser.add_argument("--instances", type=int, default=1_000_000, help="of these together")
    parser.add_argument("--folder", help="where there are 3 GB of room; by default the temporary")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side, data, path = arguments.side
        run_side(side, Path(data), Path(path))
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="convert-") as name:
        speed = measure_speed(Path(name), arguments.images)
        if speed is None:
            return 1
        memory = measure_memory(Path(name), arguments.json_images, arguments.instances)
    print(f"ratio convert_images_per_second {speed:.4g}")
    print(f"ratio json_memory_vs_pycocotools {memory:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
