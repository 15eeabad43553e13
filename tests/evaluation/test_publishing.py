"""Scores in TensorBoard's files and in a SavedModel's metadata, read back."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.evaluation.publishing import (
    final_scores,
    hyperparameters,
    update_metadata,
    write_tensorboard,
)
from unet_keras.evaluation.report import write_report
from unet_keras.evaluation.summary import Evaluation
from unet_keras.inference.loading import Run, describe_run

from .made_cases import made_case

CONFIG = dataclasses.asdict(load(overrides=["seed=7", "augment.grid=[4, 5]"]))


@pytest.fixture(scope="module")
def results():
    evaluation = Evaluation(examples=0, membranes=True)
    evaluation.add(**made_case(0, size=(30, 40), cells=4))
    return evaluation.results()


def read_back(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = {}
    for tag in events.Tags()["tensors"]:
        if tag.startswith("_hparams_"):
            continue
        (event,) = events.Tensors(tag)
        scalars[tag] = (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
    return events, scalars


def test_scores_come_back_as_scalars_and_replace_earlier_ones(tmp_path, results):
    folder = tmp_path / "run" / "tensorboard"
    for step in (3, 12):
        target = write_tensorboard(folder, results, CONFIG, split="test", step=step)
    assert target == folder / "evaluation-test"
    assert len(list(target.iterdir())) == 1
    _, scalars = read_back(target)
    assert set(scalars) == {f"test/{name}" for name in final_scores(results)}
    for name, value in final_scores(results).items():
        assert scalars[f"test/{name}"] == (12, pytest.approx(value, rel=1e-6)), name
    assert "test/v_rand" in scalars
    # one image: counts do not vary, so there is no R²
    assert results["overall"]["count_r2"] is None
    assert "test/count_r2" not in scalars


def test_hyperparameters_come_with_them(tmp_path, results):
    target = write_tensorboard(tmp_path / "run" / "tensorboard", results, CONFIG, split="val")
    events, _ = read_back(target)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    values = data.session_start_info.hparams
    assert values["seed"].number_value == 7
    assert values["model.depth"].number_value == CONFIG["model"]["depth"]
    assert values["augment.grid"].string_value == "(4, 5)"
    assert values["augment.flip"].bool_value is True
    assert "train.run_dir" not in values
    assert set(values) == set(hyperparameters(CONFIG))


def test_scores_go_into_metadata_that_are_there(tmp_path, results):
    saved_model = tmp_path / "run" / "saved_model"
    assert update_metadata(saved_model, results) is False
    saved_model.mkdir(parents=True)
    file = saved_model / "metadata.json"
    file.write_text(json.dumps({"classes": ["background", "cell"], "scores": None}))
    assert update_metadata(saved_model, results) is True
    metadata = json.loads(file.read_text())
    assert metadata["classes"] == ["background", "cell"]
    assert metadata["scores"] == results["overall"]
    assert np.isfinite(metadata["scores"]["dice"])
    for damaged in ("{", "[1]"):
        file.write_text(damaged)
        with pytest.raises(InputError, match=r"metadata\.json is damaged; export again"):
            update_metadata(saved_model, results)
        assert file.read_text() == damaged


def test_an_export_takes_the_scores_of_the_test_split_only(tmp_path, records, results):
    shutil.copy(records / "manifest.json", tmp_path)
    run = Run(tmp_path, load(), keras.Sequential())
    assert describe_run(run)["scores"] is None
    for split, expected in (("val", None), ("test", results["overall"])):
        write_report(tmp_path / "evaluation", results, details={"split": split})
        assert describe_run(run)["scores"] == expected
