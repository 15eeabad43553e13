"""TensorBoard in a real browser, on a run's folder, over loopback."""

import io
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import CHROMIUM, Browser
from unet_keras.evaluation.publishing import write_tensorboard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with"),
]


@pytest.fixture
def address(watched: Path) -> Iterator[str]:
    """Where `tensorboard --logdir` serves a run."""
    with serving(watched) as address:
        yield address


@contextmanager
def serving(run: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tensorboard = Path(sys.executable).with_name("tensorboard")
    command = [tensorboard, "--logdir", run, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()


def runs_shown(address: str, count: int = 3) -> list[str]:
    """Return the runs once TensorBoard has read all of them."""
    runs: list[str] = []
    for _ in range(400):
        try:
            runs = json.loads(fetch(f"{address}data/runs"))
        except OSError:
            time.sleep(0.5)
        if len(runs) == count:
            break
        time.sleep(0.2)
    return runs


def test_a_browser_shows_curves_and_panels(address: str, watched: Path, tmp_path: Path) -> None:
    assert runs_shown(address) == ["tensorboard", "tensorboard/train", "tensorboard/validation"]
    wanted = ("loss/total", "score/dice", "panel", "samples")
    last = (watched / "history.csv").read_text().splitlines()[-1].split(",")
    names = (watched / "history.csv").read_text().splitlines()[0].split(",")
    value = float(dict(zip(names, last, strict=True))["val_loss"])
    with Browser(tmp_path / "profile") as page:
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=1500, height=1900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        page.call("Page.navigate", url=f"{address}?tagFilter={'%7C'.join(wanted)}#timeseries")
        for tag in wanted:
            page.wait_for(f"document.body?.innerText.includes({tag!r})")
        # the last point of the validation's loss, to as many digits as are shown
        page.wait_for(
            r"(document.body?.innerText.match(/\d+\.\d+/g) ?? [])"
            f".some(shown => Math.abs(shown - {value}) < 1e-3)"
        )
        sources = page.wait_for(
            """(() => {
                const shown = [...document.querySelectorAll('img')].map(img => img.src)
                    .filter(src => src.includes('data/plugin/timeseries/imageData'));
                return shown.length === 2 && shown;
            })()"""
        )
    assert isinstance(sources, list)
    pictures = [np.array(Image.open(io.BytesIO(fetch(source)))) for source in sources]
    assert all(picture.shape[2] == 3 and picture.std() > 20 for picture in pictures)

    shown = {name: fetch(f"{address}data/plugin/{name}/tags") for name in ("pr_curves", "text")}
    assert b"precision_recall/pr_curves" in shown["pr_curves"]
    assert json.loads(shown["text"]) == {"tensorboard": ["config"]}


def test_runs_can_be_compared_by_their_final_scores(watched: Path, tmp_path: Path) -> None:
    """With the folder that `train` prints, and one line a run also after `evaluate`."""
    run = tmp_path / "run"
    shutil.copytree(watched, run)
    tested = {"overall": {"dice": 0.75, "segmentation_accuracy": 0.25, "count_r2": None}}
    write_tensorboard(run / "tensorboard", tested, split="test", step=3)
    columns = [("validation", "best/dice"), ("evaluation-test", "test/dice")]
    asked = {
        "experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"],
        "colParams": [{"metric": {"group": group, "tag": tag}} for group, tag in columns],
        "startIndex": 0, "sliceSize": 10,
    }  # fmt: skip
    with serving(run) as address:
        assert "tensorboard/evaluation-test" in runs_shown(address, 4)
        request = urllib.request.Request(
            f"{address}data/plugin/hparams/session_groups", json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            (group,) = json.loads(answer.read())["sessionGroups"]
    assert group["hparams"]["train.phases.0.learning_rate"] == 0.01
    assert group["hparams"]["train.precision"] == "mixed_float16"
    scores = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
    rows = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    dice = max(float(row[rows[0].index("val_dice")]) for row in rows[1:])
    assert scores["best/dice"] == pytest.approx(dice)
    assert (scores["test/dice"], scores["test/segmentation_accuracy"]) == (0.75, 0.25)
