"""A network that also tells the distance to the outline, through training, scoring and serving."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import small_config
from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import predictor_of, read_records, score_split
from unet_keras.inference.loading import describe_run, open_predictor, open_run
from unet_keras.inference.serving import export_saved_model
from unet_keras.model.geometry import map_channels
from unet_keras.records.manifest import read_manifest
from unet_keras.training import fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["cells", "cells_and_borders"])
def trained(request: pytest.FixtureRequest, records: Path, tmp_path_factory) -> Path:
    config = small_config(
        records, tmp_path_factory.mktemp(request.param) / "run",
        f"targets.kind={request.param}", "evaluate.method=watershed",
        "records.maps=[border,distance]", "loss.distance=2", "evaluate.seed_smoothing=1",
        "train.phases=[{epochs: 2, augment: none, learning_rate: 1e-2}]",
    )  # fmt: skip
    return fit.train(config)


def test_its_loss_is_watched_and_falls(trained: Path) -> None:
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["map_regression"]) < float(rows[0]["map_regression"])
    assert map_channels(open_run(trained).model) == 1


def test_history_and_evaluation_agree_on_the_pixels_of_cells(trained: Path) -> None:
    opened = open_run(trained, ["evaluate.split=val"])
    scores = score_split(opened.config, predictor_of(opened.model, opened.config)).results()
    with (trained / "history.csv").open() as file:
        best = max(float(row["val_dice"]) for row in csv.DictReader(file))
    assert scores["overall"]["dice"] == pytest.approx(best, abs=1e-4)


def test_run_and_saved_model_find_the_same_cells(trained: Path, tmp_path: Path) -> None:
    opened = open_run(trained)
    metadata = describe_run(opened)
    assert metadata["separate"] == (opened.config.targets.kind == "cells")
    export_saved_model(opened.model, tmp_path / "saved_model", metadata=metadata)
    records = Path(opened.config.records.path)
    image = next(read_records(records, read_manifest(records), "test"))["image"]
    run, served = open_predictor(trained), open_predictor(tmp_path / "saved_model")
    cells = run(image)
    assert cells.shape == (*image.shape[:2], 1)
    np.testing.assert_allclose(served(image), cells, atol=1e-5)
    np.testing.assert_allclose(predictor_of(opened.model, opened.config)(image), cells, atol=1e-5)
    assert served(image, tile=64).shape == cells.shape


def test_what_it_needs_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"loss.distance=1.0 needs the distance map, .* add dist"):
        load(overrides=["loss.distance=1"])
    maps = "records.maps=[border,distance]"
    with pytest.raises(InputError, match=r"not targets.kind=boundary: give targets.kind=cells or"):
        load(overrides=["loss.distance=1", maps, "targets.kind=boundary"])
