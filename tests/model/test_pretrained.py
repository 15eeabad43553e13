"""The network that ships: small, opened by its name, and good at what it was trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import requests
import tifffile
from PIL import Image

from tests.web.conftest import start
from unet_keras import predict
from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.inference.instances import InstanceRules
from unet_keras.inference.loading import open_predictor
from unet_keras.model.pretrained import resolve
from unet_keras.sources.synthetic import synthetic_references

FOLDER = resolve("default")


def test_it_is_small_and_says_where_it_is_from() -> None:
    assert (FOLDER / "model.keras").stat().st_size < 10e6
    known = json.loads((FOLDER / "metadata.json").read_text())
    assert known["training_data"]["kind"] == "synthetic"
    assert known["scores"] is not None
    card = (FOLDER / "README.md").read_text()
    assert "synthetic" in card
    assert "LIVECell" in card


def test_a_path_of_this_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("default").parent == Path(__file__).parents[2] / "unet_keras" / "model"
    Path("default").mkdir()
    assert resolve("default") == Path("default")
    assert resolve("runs/default") == Path("runs/default")


@pytest.mark.slow
def test_it_finds_synthetic_cells_it_never_saw() -> None:
    predictor = open_predictor(Path("default"))
    rules = InstanceRules.of(predictor.metadata)
    scores = []
    for reference in synthetic_references({"test": 4}, seed=99, size=(256, 320)):
        sample = reference.load()
        labels = rules.label(predictor(sample.image)[..., 0])
        scores.append(segmentation_accuracy(sample.outlines, labels)["segmentation_accuracy"])
    assert np.mean(scores) > 0.5


@pytest.mark.slow
def test_the_command_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = synthetic_references({"test": 1}, seed=99, size=(128, 160))[0].load()
    Image.fromarray(sample.image).save(tmp_path / "cells.png")
    line = ["predict", "default", str(tmp_path / "cells.png"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as ended:
        predict.main()
    assert ended.value.code == 0
    labels = tifffile.imread(tmp_path / "out" / "cells_labels.tif")
    assert abs(int(labels.max()) - len(sample.outlines)) <= 0.3 * len(sample.outlines)


@pytest.mark.slow
def test_served_it_takes_any_exposure(tmp_path: Path) -> None:
    sample = synthetic_references({"test": 1}, seed=99, size=(128, 160))[0].load()
    wide = 2000 + 37 * sample.image.astype(np.uint16)
    process, address = start(Path("default"), tmp_path / "log")
    try:
        counts = []
        for image in (sample.image, wide, wide.astype(np.float32) / 65535):
            tifffile.imwrite(tmp_path / "cells.tif", image)
            content = (tmp_path / "cells.tif").read_bytes()
            answer = requests.post(f"{address}/segment", data=content, timeout=60)
            assert answer.status_code == 200, answer.text
            counts.append(answer.json()["count"])
    finally:
        process.terminate()
        process.wait(60)
    assert counts == [counts[0]] * 3
    assert abs(counts[0] - len(sample.outlines)) <= 0.3 * len(sample.outlines)
