"""The whole path in one go, on synthetic cells; `make demo` runs it.

Writes a data set in LIVECell's own layout into demo/data, then runs the five ordinary commands with
configs/synthetic.yaml, each in a process of its own, as a user would. What is done is skipped.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from unet_keras import drawing
from unet_keras.sources.images import read_image
from unet_keras.sources.synthetic import write_livecell_layout

CONFIG = "configs/synthetic.yaml"
DATA = Path("demo/data")
RUN = Path("demo/run")
PREDICTIONS = Path("demo/predictions")
TEST_IMAGES = DATA / "images" / "livecell_test_images"


def main() -> None:
    """Run the commands one after the other."""
    started = time.monotonic()
    if not DATA.exists():
        print("\n== synthetic cells in LIVECell's layout")
        write_livecell_layout(DATA, {"train": 12, "val": 4, "test": 4}, seed=0)
    step("make_records", CONFIG)
    step("train", CONFIG)
    step("evaluate", str(RUN), done=RUN / "evaluation" / "report.html")
    step("export", str(RUN), done=RUN / "saved_model")
    step(
        "predict",
        str(RUN / "saved_model"),
        str(TEST_IMAGES),
        "--output",
        str(PREDICTIONS),
        done=PREDICTIONS / "counts.csv",
    )
    picture = draw_picture()
    summarize(picture, time.monotonic() - started)


def step(command: str, *arguments: str, done: Path | None = None) -> None:
    """Run one command of the package unless its result is there already; stop where it fails."""
    line = [sys.executable, "-m", f"unet_keras.{command}", *arguments]
    print(f"\n== python -m {' '.join(line[2:])}", flush=True)
    if done is not None and done.exists():
        print(f"skipped: {done} is there")
        return
    status = subprocess.run(line, check=False).returncode
    if status:
        sys.exit(status)


def draw_picture() -> Path:
    """Put test images beside what was found in them."""
    path = PREDICTIONS / "demo.png"
    rows = []
    for image_path in sorted(TEST_IMAGES.glob("*.tif"))[:2]:
        image, labels = (
            read_image(image_path),
            read_image(PREDICTIONS / f"{image_path.stem}_labels.tif"),
        )
        rows.append([drawing.to_uint8(image), drawing.overlay(image, labels)])
    drawing.write_png(path, drawing.panel(rows, titles=["synthetic cells", "segmented"]))
    return path


def summarize(picture: Path, seconds: float) -> None:
    """Print the scores, and where everything lies."""
    scores = json.loads((RUN / "evaluation" / "metrics.json").read_text())["overall"]
    print(f"\nDone in {seconds:.0f} s.")
    print(f"Dice         {scores['dice']:.3f}")
    print(f"IoU          {scores['iou']:.3f}")
    print(f"SA           {scores['segmentation_accuracy']:.3f}   (instances, IoU 0.50 to 0.95)")
    print(f"report       {RUN / 'evaluation' / 'report.html'}")
    print(f"pictures     {picture} and the others in {PREDICTIONS}")
    print(f"SavedModel   {RUN / 'saved_model'}")
    print(f"watch        {Path(sys.executable).parent / 'tensorboard'} --logdir {RUN}")


if __name__ == "__main__":
    main()
