"""The five commands as a user runs them, each in a process of its own, on the smoke config."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet_keras.sources.synthetic import write_livecell_layout

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow

# Runs without this package: any import of it fails.
CLIENT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "unet_keras":
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
image = np.load(sys.argv[2])
answer = model.signatures["serving_default"](tf.constant(image))
np.save(sys.argv[3], answer["probabilities"].numpy())
"""


def command(name: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"unet_keras.{name}", *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def succeed(name: str, *arguments: str | Path, folder: Path) -> str:
    result = command(name, *arguments, folder=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout in which every command has been run once."""
    folder = tmp_path_factory.mktemp("workplace")
    write_livecell_layout(
        folder / "data", {"train": 4, "val": 2, "test": 2}, seed=0, size=(160, 192)
    )
    config = ROOT / "configs" / "smoke.yaml"
    source = [
        "source.kind=coco",
        f"source.images={folder / 'data/images'}",
        f"source.annotations={folder / 'data/annotations'}",
    ]
    succeed("make_records", config, *source, folder=folder)
    succeed("train", config, *source, folder=folder)
    succeed("evaluate", "runs/smoke", folder=folder)
    succeed("export", "runs/smoke", folder=folder)
    images = folder / "data/images/livecell_test_images"
    succeed("predict", "runs/smoke", images, "--output", "out/run", folder=folder)
    succeed(
        "predict", "runs/smoke/saved_model", images, "--output", "out/saved_model", folder=folder
    )
    return folder


def test_the_run_folder_holds_what_it_should(workplace: Path) -> None:
    run = workplace / "runs/smoke"
    for name in (
        "config.yaml",
        "versions.json",
        "model.keras",
        "history.csv",
        "evaluation/metrics.json",
        "evaluation/report.html",
        "saved_model/saved_model.pb",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list(run.glob("tensorboard/**/events*"))
    assert list(run.glob("checkpoints/epoch-0002/model.keras"))
    assert not list(run.glob("**/*unfinished*"))


def test_both_phases_ran_and_the_loss_fell(workplace: Path) -> None:
    with (workplace / "runs/smoke/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert {"dice", "iou", "val_dice", "val_loss", "learning_rate"} <= rows[0].keys()


def test_metrics_cover_every_image_and_group(workplace: Path) -> None:
    metrics = json.loads((workplace / "runs/smoke/evaluation/metrics.json").read_text())
    assert len(metrics["images"]) == 2
    assert set(metrics["groups"]) == {row["group"] for row in metrics["images"]}
    for name in ("dice", "iou", "segmentation_accuracy"):
        assert 0 <= metrics["overall"][name] <= 1


def test_the_saved_model_gives_kerass_probabilities_without_this_package(workplace: Path) -> None:
    from unet_keras.inference.loading import open_predictor

    image = np.random.default_rng(0).integers(0, 256, (1, 83, 101, 1), np.uint8)
    np.save(workplace / "image.npy", image)
    answer = workplace / "answer.npy"
    subprocess.run(
        [
            sys.executable,
            "-c",
            CLIENT,
            workplace / "runs/smoke/saved_model",
            workplace / "image.npy",
            answer,
        ],
        check=True,
        cwd=workplace,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    expected = open_predictor(workplace / "runs/smoke")(image[0])
    np.testing.assert_allclose(np.load(answer)[0], expected, atol=1e-5)


def test_predict_writes_the_same_from_a_run_and_from_its_saved_model(workplace: Path) -> None:
    names = sorted(path.name for path in (workplace / "out/run").iterdir())
    assert names == sorted(path.name for path in (workplace / "out/saved_model").iterdir())
    assert sum(name.endswith("_overlay.png") for name in names) == 2
    with (workplace / "out/run/counts.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    for path in (workplace / "out/run").glob("*_labels.tif"):
        labels = tifffile.imread(path)
        assert labels.shape == (160, 192)
        assert labels.dtype == np.uint16
        row = rows[path.name.replace("_labels.tif", ".tif")]
        assert int(row["cells"]) == len(np.unique(labels)) - 1
        first = tifffile.imread(path.with_name(path.name.replace("labels", "probability")))
        second = tifffile.imread(
            workplace / "out/saved_model" / path.name.replace("labels", "probability")
        )
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_finished_run_started_again_does_nothing(workplace: Path) -> None:
    run = workplace / "runs/smoke"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.keras")}
    output = succeed("train", run / "config.yaml", folder=workplace)
    assert "runs/smoke is finished: 2 epochs are done" in output
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*.keras")}


def test_a_run_folder_of_another_config_is_refused(workplace: Path) -> None:
    result = command("train", "runs/smoke/config.yaml", "model.base_filters=8", folder=workplace)
    assert result.returncode == 2
    assert "model.base_filters: 4 != 8" in result.stderr


def test_train_converts_first_where_there_are_no_records(tmp_path: Path) -> None:
    config = ROOT / "configs/smoke.yaml"
    output = succeed("train", config, "train.phases=[{epochs: 1}]", folder=tmp_path)
    assert "no records at records/smoke yet: converting first" in output
    assert (tmp_path / "runs/smoke/model.keras").exists()
