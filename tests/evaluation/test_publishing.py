"""Scores in TensorBoard's files and in a SavedModel's metadata, read back."""

import dataclasses
import json
import logging
import shutil

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.evaluation.publishing import update_metadata, write_tensorboard
from unet_keras.evaluation.report import write_report
from unet_keras.evaluation.summary import Evaluation
from unet_keras.inference.loading import Run, describe_run, stale_scores
from unet_keras.inference.scored import final_scores, scored_state
from unet_keras.records.manifest import read_manifest

from .made_cases import made_case


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
        (event,) = events.Tensors(tag)
        scalars[tag] = (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
    return events, scalars


def test_scores_come_back_as_scalars_and_replace_earlier_ones(tmp_path, results):
    folder = tmp_path / "run" / "tensorboard"
    for step in (3, 12):
        target = write_tensorboard(folder, results, split="test", step=step)
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


@pytest.mark.parametrize("place", ["tensorboard", "tensorboard/evaluation-test"])
def test_a_file_in_their_place_is_named_in_one_line(tmp_path, results, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("a file")
    with pytest.raises(InputError, match=r"evaluation-test cannot be written \(") as said:
        write_tensorboard(tmp_path / "tensorboard", results, split="test")
    assert str(said.value).endswith("make it writable, or remove what is in its place")


RULES = {
    "threshold": 0.5, "minimum_area": 10, "method": "components", "seed_prominence": 0.2,
    "seed_smoothing": 0.0, "grow_pixels": 1, "separate": True,
}  # fmt: skip
EXPORTED = {"classes": ["background", "cell"], "model_digest": "a", "test_digest": "b", **RULES}
SCORED = {"model": "a", "records": "b", "split": "test", "tta": False, "ensemble": [], **RULES}


@pytest.fixture
def metadata_file(tmp_path):
    file = tmp_path / "run" / "saved_model" / "metadata.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**EXPORTED, "scores": None}))
    return file


def test_scores_go_into_metadata_that_are_there(tmp_path, metadata_file, results):
    results = {**results, "scored": SCORED}
    assert update_metadata(tmp_path, results) is False
    assert update_metadata(metadata_file.parent, results) is True
    metadata = json.loads(metadata_file.read_text())
    assert metadata == {**EXPORTED, "scores": final_scores(results), "scores_tta": False}
    assert np.isfinite(metadata["scores"]["dice"])
    for damaged in ("{", "[1]"):
        metadata_file.write_text(damaged)
        with pytest.raises(InputError, match=r"metadata\.json is damaged; export again"):
            update_metadata(metadata_file.parent, results)
        assert metadata_file.read_text() == damaged


@pytest.mark.parametrize(
    "other",
    [
        {"model": "c"}, {"records": "c"}, {"split": "val"}, {"ensemble": ["b"]},
        {"threshold": 0.4}, {"method": "watershed"}, {"grow_pixels": 2}, {"separate": False},
    ],
)  # fmt: skip
def test_scores_of_anything_else_stay_out_of_metadata(metadata_file, results, caplog, other):
    before = metadata_file.read_text()
    with caplog.at_level(logging.INFO):
        assert update_metadata(metadata_file.parent, {**results, "scored": SCORED | other}) is False
    assert metadata_file.read_text() == before
    (said,) = caplog.messages
    assert f"differs from it in {next(iter(other))};" in said


def test_an_export_older_than_digests_keeps_its_scores(metadata_file, results):
    metadata_file.write_text(json.dumps({**RULES, "scores": None}))
    assert update_metadata(metadata_file.parent, {**results, "scored": SCORED}) is False


@pytest.fixture
def run(tmp_path, records, results):
    """A run that was evaluated on its test split."""
    shutil.copy(records / "manifest.json", tmp_path)
    (tmp_path / "model.keras").write_bytes(b"weights")
    run = Run(tmp_path, load(), keras.Sequential())
    evaluate_again(run, results)
    return run


def evaluate_again(run, results, **settings):
    state = scored_state(
        dataclasses.replace(run.config.evaluate, **settings),
        model=run.folder / "model.keras",
        manifest=read_manifest(run.folder),
        kind="cells",
    )
    write_report(run.folder / "evaluation", {**results, "scored": state})


def test_an_export_takes_the_scores_of_the_test_split_only(run, results):
    metadata = describe_run(run)
    assert metadata["scores"] == final_scores(results)
    assert metadata["scores"].keys() >= {"dice", "v_rand", "v_info", "warping_error"}
    assert stale_scores(run.folder, metadata) is None
    evaluate_again(run, results, split="val")
    metadata = describe_run(run)
    assert metadata["scores"] is None
    told = stale_scores(run.folder, metadata)
    assert "is of split val, and those of test images alone are exported" in told
    assert told.endswith(f"python -m unet_keras.evaluate {run.folder} evaluate.split=test")
    shutil.rmtree(run.folder / "evaluation")
    metadata = describe_run(run)
    assert metadata["scores"] is None
    assert stale_scores(run.folder, metadata) is None


def test_an_export_takes_no_scores_of_an_older_network_or_other_rules(run, results):
    evaluate_again(run, results, threshold=0.4, ensemble=("another",))
    metadata = describe_run(run)
    assert metadata["scores"] is None
    assert "exported in ensemble, threshold; evaluate" in stale_scores(run.folder, metadata)
    evaluate_again(run, results)
    (run.folder / "model.keras").write_bytes(b"weights of further epochs")
    metadata = describe_run(run)
    assert metadata["scores"] is None
    assert "exported in model; evaluate" in stale_scores(run.folder, metadata)


def test_an_evaluation_that_does_not_say_what_it_scored_is_not_trusted(run, results):
    write_report(run.folder / "evaluation", results)
    assert describe_run(run)["scores"] is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"overall": 1}', '{"overall": {}, "scored": 1}']
)
def test_a_damaged_evaluation_is_named(run, text):
    (run.folder / "evaluation" / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json is damaged: remove it, or evaluate again"):
        stale_scores(run.folder, describe_run(run))
    assert describe_run(run)["scores"] is None, "predicting goes on"


def test_scores_over_flipped_images_are_marked(run, results):
    assert describe_run(run)["scores_tta"] is False
    evaluate_again(run, results, tta=True)
    metadata = describe_run(run)
    assert (metadata["scores"], metadata["scores_tta"]) == (final_scores(results), True)
