"""The command: a run, its tuning, two runs, folders of masks, and mistakes in one line."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_keras import config as configuration
from unet_keras import evaluate
from unet_keras.evaluation.scoring import read_records
from unet_keras.evaluation.trained import check_trained
from unet_keras.inference.loading import describe_run, open_run
from unet_keras.model.unet import build_unet
from unet_keras.records.manifest import read_manifest


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command in this process: its exit status, what it said, and what it complained of."""
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            evaluate.main()
        return stop.value.code, capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def run(records, tmp_path_factory):
    """A run folder as training leaves it, of a network that was not trained."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    (folder / "saved_model").mkdir(parents=True)
    shutil.copy(records / "manifest.json", folder)
    manifest = read_manifest(records)
    model = build_unet(base_filters=2, depth=1, mean=manifest.mean, scale=manifest.scale, seed=3)
    model.save(folder / "model.keras")
    overrides = [f"records.path={records}", "evaluate.minimum_area=0"]
    configuration.save(configuration.load(overrides=overrides), folder / "config.yaml")
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    metadata = json.dumps(describe_run(open_run(folder)))
    (folder / "saved_model" / "metadata.json").write_text(metadata)
    return folder


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
def test_a_run_is_scored_tuned_and_compared(run, records, command):
    assert command(run, "evaluate.threshold=0.45")[0] == 0
    before = metrics(run / "evaluation")
    assert before["threshold"] == 0.45
    metadata = json.loads((run / "saved_model" / "metadata.json").read_text())
    assert metadata["scores"] is None, "it was exported with another threshold"
    assert command(run)[0] == 0
    before = metrics(run / "evaluation")
    assert before["details"]["tuned"] == "False"
    assert len(before["images"]) == 2
    assert list((run / "tensorboard" / "evaluation-test").iterdir())
    metadata = json.loads((run / "saved_model" / "metadata.json").read_text())
    assert metadata["scores"] == {k: v for k, v in before["overall"].items() if v is not None}

    assert command(run, "--tune", "--tune-by", "dice")[0] == 0
    overrides = configuration.load(run / "tuned.yaml").evaluate
    first = run.rename(run.with_name("first"))
    try:
        other = run.with_name("other")
        other.mkdir()
        for name in ("config.yaml", "model.keras", "tuned.yaml"):
            (other / name).write_bytes((first / name).read_bytes())
        assert command(other, "evaluate.split=val")[0] == 0
        tuned = metrics(other / "evaluation")
        assert tuned["threshold"] == overrides.threshold
        assert tuned["overall"]["dice"] == pytest.approx(tuned["overall"]["best_dice"])
        # the test split's scores are those that go into metadata, and other images do not compare
        status, message = command(first, other)
        assert status == 2
        assert "different images" in message
        assert command(other)[0] == 0
        assert command(first, other)[0] == 0
        written = other / "evaluation" / "compared_with_first.json"
        assert json.loads(written.read_text())["images"] == 2
    finally:
        first.rename(run)


@pytest.mark.slow
def test_what_was_tuned_scores_on_its_split_what_tuning_said(run, command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    given = ["evaluate.method=watershed", "evaluate.tta=true", "evaluate.minimum_area=20"]
    assert command(folder, "--tune", *given)[0] == 0
    assert command(folder, "evaluate.split=val")[0] == 0
    accuracy = metrics(folder / "evaluation")["overall"]["segmentation_accuracy"]
    assert f"segmentation_accuracy: {accuracy:.4f}" in (folder / "tuned.yaml").read_text()


@pytest.fixture
def remade(run, records, tmp_path):
    """A copy of the run, whose records were drawn anew: one image went from train to test."""
    first = tmp_path / "first"
    shutil.copytree(records, first)
    scores = shutil.ignore_patterns("evaluation", "tuned.yaml")
    shutil.copytree(run, tmp_path / "run", ignore=scores)
    config = configuration.load(run / "config.yaml", [f"records.path={first}"])
    configuration.save(config, tmp_path / "run/config.yaml")
    other = tmp_path / "other"
    shutil.copytree(records, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["splits"]["test"]["source_digest"] = "redrawn"
    (other / "manifest.json").write_text(json.dumps(manifest))
    stamp = json.loads((other / ".conversion.json").read_text())
    learned = next(one for one in stamp["images"] if one["split"] == "train")
    for one in stamp["images"]:
        if one["split"] in ("val", "test"):
            one["pixels_digest"] = learned["pixels_digest"]
            break
    (other / ".conversion.json").write_text(json.dumps(stamp))
    return tmp_path / "run", first, other, one


@pytest.mark.parametrize("tuning", [[], ["--tune"]])
def test_records_that_were_remade_since_are_not_scored(remade, command, tuning):
    run, first, other, _ = remade
    shutil.rmtree(first)
    other.rename(first)
    status, said = command(run, *tuning)
    assert status == 2
    assert f"{first} is not what {run} was trained on (other test images)" in said
    assert "make the records again as they were, or give records.path=OTHER" in said
    assert said.count("\n") == 1
    assert not (run / "evaluation").exists()
    assert not (run / "tuned.yaml").exists()


def test_images_that_were_learned_are_named_where_other_records_are_scored(remade, caplog):
    run, first, other, moved = remade
    check_trained(run, first, moved["split"], first)
    check_trained(run, other, "train", first)
    assert caplog.text == ""
    check_trained(run, other, moved["split"], first)
    assert f"{run} was trained on 1 image of split {moved['split']!r} of {other}" in caplog.text
    assert moved["file_name"] in caplog.text
    (other / ".conversion.json").unlink()
    check_trained(run, other, "test", first)
    assert "cannot be told anymore" in caplog.text


def test_masks_of_another_tool_are_scored_against_records_and_folders(records, command, tmp_path):
    manifest = read_manifest(records)
    for record in read_records(records, manifest, "test"):
        stem = Path(record["file_name"]).stem
        for folder, array in (
            ("labels", record["labels"].astype(np.uint16)),
            ("masks", np.uint8(255) * (record["labels"] > 0)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{stem}.png")
    labels, masks = tmp_path / "labels", tmp_path / "masks"
    assert command("--predictions", labels, "--truth", records)[0] == 0
    overall = metrics(labels / "evaluation")["overall"]
    assert overall["dice"] == 1.0
    assert overall["segmentation_accuracy"] == pytest.approx(overall["ceiling_label_map"])
    output = tmp_path / "report"
    assert command("--predictions", masks, "--truth", labels, "--output", output)[0] == 0
    result = metrics(output)
    assert result["overall"]["dice"] == 1.0
    assert result["overall"]["segmentation_accuracy"] < 1.0
    assert result["overall"]["ceiling_label_map"] is None
    assert result["membranes"] is None
    both = ["--predictions", labels, "--truth", labels, "--output", output]
    assert command(*both, "evaluate.membranes=true")[0] == 0
    assert metrics(output)["membranes"]["at_threshold"]["warping_error_all"] == 0.0
    status, message = command("--predictions", masks, "--truth", records, "--images", labels)
    assert status == 2
    assert f"the records {records} hold theirs: leave it out" in message
    lost = next(masks.glob("*.png"))
    lost.unlink()
    status, message = command("--predictions", masks, "--truth", records)
    assert status == 2
    assert f"has nothing for the image {lost.stem}.tif" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "0 folders of runs came: give one RUN_DIR to score, two to compare"),
        (["a", "b", "c"], "3 folders of runs came: give one RUN_DIR to score, two to compare"),
        (["a", "b", "evaluate.split=val"], "evaluate.split=val is for one RUN_DIR; two are"),
        (["a", "b", "--tune"], "--tune is for one RUN_DIR; two are compared by the scores"),
        (["a", "targets.kind=boundary"], "targets.kind=boundary was decided when a was trained"),
        (["a", "--tune", "model.depth=3"], "model.depth=3 was decided when a was trained"),
        (["a", "--tune", "evaluate.split=test"], "evaluate.split=test does not go with --tune"),
        (["a", "--tune", "evaluate={split: test}"], "evaluate={split: test} does not go with"),
        (["nowhere", "--tune", "evaluate={split: val}"], "there is no such run folder"),
        (["a", "--tune-by", "dice"], "--tune-by dice says what --tune makes as high"),
        (["a", "--output", "b"], "--output is for --predictions DIR and --truth DIR"),
        (["a", "b", "--kind", "auto"], "--kind is for --predictions DIR and --truth DIR"),
        (["a", "--images", "b"], "--images is for --predictions DIR and --truth DIR"),
        (["--predictions", "a"], "--predictions a and --truth DIR belong together"),
        (["run", "--predictions", "a", "--truth", "b"], "belong together, without RUN_DIR"),
        (["--predictions", "a", "--truth", "b", "evaluate.split=val"], "changes nothing of masks"),
        (["--predictions", "a", "--truth", "b", "evaluate.threshold=0.4"], "evaluate.threshold=0"),
        (
            ["--predictions", "a", "--truth", "b", "model.depth=2"],
            "here is evaluate.membranes, sou",
        ),
        (["a", "b"], "a has no evaluation/metrics.json"),
        (["nowhere"], "there is no such run folder"),
    ],
)
def test_mistakes_end_with_one_line(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, said = command(*arguments)
    assert status == 2
    assert message in said
    assert said.count("\n") == 1


def test_a_place_that_takes_nothing_is_named_before_anything_is_scored(run, command, tmp_path):
    for name in ("config.yaml", "model.keras"):
        shutil.copy(run / name, tmp_path)
    for place in ("evaluation", "tensorboard"):
        (tmp_path / place).write_text("a file")
        status, said = command(tmp_path, "evaluate.split=val")
        assert status == 2
        assert f"{tmp_path / place} cannot be written (File exists): make it writable, or" in said
        assert said.count("\n") == 1
        (tmp_path / place).unlink()
    masks, file = tmp_path / "masks", tmp_path / "config.yaml"
    masks.mkdir()
    status, said = command("--predictions", masks, "--truth", masks, "--output", file)
    assert status == 2
    assert f"{file} cannot be written (File exists): give another --output, or make it" in said


def test_photographs_given_as_predictions_leave_nothing_behind(command, tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    photograph = np.random.default_rng(0).integers(90, 160, (40, 50)).astype(np.uint8)
    Image.fromarray(photograph).save(images / "a.png")
    Image.fromarray(np.where(photograph > 150, np.uint8(255), np.uint8(0))).save(masks / "a.png")
    output = tmp_path / "new" / "report"
    for place in (output, images / "evaluation"):
        given = ["--output", place] if place == output else []
        status, said = command("--predictions", images, "--truth", masks, *given)
        assert status == 2
        assert "a.png is no mask or label map: its 70 values besides 0 lie in" in said
        assert said.count("\n") == 1
    assert not output.parent.exists()
    assert not (images / "evaluation").exists()
    output.mkdir(parents=True)
    (output / "mine.txt").touch()
    assert command("--predictions", images, "--truth", masks, "--output", output)[0] == 2
    assert (output / "mine.txt").exists()
