"""What predict and serve make of the files that a model may be given as."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_keras import serve
from unet_keras.inference.loading import open_predictor, place_of


@pytest.fixture
def parted(make_model, records, tmp_path):
    """A run whose network has learned inside and outline of cells, and which was tuned."""
    folder = tmp_path / "run"
    folder.mkdir()
    make_model(num_classes=3).save(folder / "model.keras")
    shutil.copy(records / "manifest.json", folder)
    (folder / "config.yaml").write_text(
        "targets: {kind: cells_and_borders}\nevaluate: {threshold: 0.3, minimum_area: 4}\n"
    )
    (folder / "tuned.yaml").write_text("evaluate: {method: watershed, minimum_area: 3}\n")
    return folder


def test_the_file_of_a_run_is_that_run(run, parted, rng, tmp_path):
    image = rng.integers(0, 255, (64, 80)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    found = []
    for model in (parted, parted / "model.keras"):
        arguments = ("--output", tmp_path / model.name, "--write", "labels,probability")
        assert run(model, tmp_path / "a.png", *arguments)[0] == 0
        names = ("a_labels.tif", "a_probability.tif")
        found.append([tifffile.imread(tmp_path / model.name / name) for name in names])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found[0][1].ndim == 2, "inside and outline are one map of cells"


def test_served_by_its_file_a_run_keeps_its_rules(parted):
    from unet_keras.evaluation.tuning import tuned_overrides

    place = place_of(parted / "model.keras")
    assert serve.name_of(place) == "run"
    question = serve.question_for(open_predictor(place, overrides=tuned_overrides(place)))
    assert (question.rules.method, question.rules.minimum_area) == ("watershed", 3)


@pytest.mark.parametrize("gone", ["manifest.json", "config.yaml"])
def test_a_lone_network_of_several_classes_is_refused(run, parted, tmp_path, gone):
    (parted / gone).unlink()
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    status, text = run(parted / "model.keras", tmp_path / "a.png", "--output", tmp_path / "out")
    assert status == 2
    assert "model.keras has 3 classes" in text
    assert "give the run folder" in text
    assert not (tmp_path / "out").exists()


def test_a_lone_network_of_cells_is_used_as_it_is(bright_file, make_model, tmp_path):
    assert open_predictor(bright_file).metadata == {}
    make_model(num_classes=2).save(tmp_path / "model.keras")
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    assert open_predictor(tmp_path / "model.keras").metadata == {}
