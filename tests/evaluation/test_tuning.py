"""Tuning finds the best of what it tries, on the validation split only, and is read back."""

import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.evaluation import tuning
from unet_keras.evaluation.scoring import score_split
from unet_keras.evaluation.tuning import (
    AREAS,
    PROMINENCES,
    SMOOTHINGS,
    Tuned,
    given_values,
    tune,
    tuned_overrides,
    write_tuned,
)
from unet_keras.inference.instances import InstanceRules
from unet_keras.records.manifest import read_manifest
from unet_keras.records.writer import write_records
from unet_keras.sources.synthetic import synthetic_references
from unet_keras.targets.distance import distance_map


def bright(image):
    """Probabilities of a predictor that says how bright each pixel is."""
    return np.clip(image / 255.0, 0, 1).astype(np.float32)


def scored(records, split, threshold, minimum_area, *more):
    overrides = [
        *more,
        f"records.path={records}",
        f"evaluate.split={split}",
        f"evaluate.threshold={threshold}",
        f"evaluate.minimum_area={minimum_area}",
    ]
    return score_split(load(overrides=overrides), bright).results()["overall"]


def test_accuracy_is_the_one_evaluate_reports_and_the_best_of_the_neighborhood(records):
    steps = []
    tuned = tune(records, bright, progress=steps.append)
    assert tuned.images == read_manifest(records).splits["val"].images == 2
    chosen = tuned.rules
    expected = scored(records, "val", chosen.threshold, chosen.minimum_area)
    assert tuned.score == pytest.approx(expected["segmentation_accuracy"], abs=1e-12)
    before = scored(records, "val", 0.5, 10)["segmentation_accuracy"]
    assert tuned.before == pytest.approx(before, abs=1e-12)
    assert tuned.score > tuned.before
    for area in AREAS:
        other = scored(records, "val", chosen.threshold, area)["segmentation_accuracy"]
        assert other <= tuned.score + 1e-12
    assert len(steps) >= 2 * (1 + len(tuning.COARSE) + len(AREAS))


def test_of_a_watershed_the_seeds_are_chosen_too(records):
    """Cells that rise to their middle, with a texture that would be seeds by itself."""
    random = np.random.default_rng(0)
    known = {}
    for record in tuning.read_records(records, read_manifest(records), "val"):
        labels = record["labels"]
        texture = random.uniform(0, 0.1, labels.shape)
        cells = 0.55 + 0.35 * distance_map(labels) + texture
        known[record["image"].tobytes()] = np.where(labels > 0, cells, 0)[..., None]
    start = InstanceRules(method="watershed", seed_prominence=0.01, minimum_area=0)
    tuned = tune(records, lambda image: known[image.tobytes()], rules=start)
    chosen = tuned.rules
    assert chosen == replace(
        start,
        threshold=chosen.threshold,
        minimum_area=chosen.minimum_area,
        seed_smoothing=chosen.seed_smoothing,
        seed_prominence=chosen.seed_prominence,
    )
    assert chosen.seed_smoothing > 0, "it takes the texture away"
    assert chosen.seed_smoothing in SMOOTHINGS
    assert chosen.seed_prominence in (0.01, *PROMINENCES)
    assert tuned.before < 0.1 < 0.6 < tuned.score


def test_dice_is_looked_up_at_every_thousandth(records):
    tuned = tune(records, bright, rules=InstanceRules(minimum_area=7), objective="dice")
    overall = scored(records, "val", tuned.rules.threshold, 7)
    assert tuned.score == pytest.approx(overall["dice"], abs=1e-12)
    assert tuned.score == pytest.approx(overall["best_dice"], abs=1e-12)
    assert tuned.rules.minimum_area == 7
    assert tuned.before == pytest.approx(scored(records, "val", 0.5, 7)["dice"], abs=1e-12)


def test_cells_with_outlines_of_their_own_are_compared_as_they_meet(records):
    """A perfect answer has a Dice of 1 with the truth that it was asked for, and only with that."""
    known = {}
    for record in tuning.read_records(records, read_manifest(records), "val"):
        known[record["image"].tobytes()] = (record["labels"] > 0)[..., None].astype(np.float32)
    scores = {
        kind: tune(records, lambda image: known[image.tobytes()], kind=kind, objective="dice").score
        for kind in ("cells", "cells_and_borders")
    }
    assert scores["cells_and_borders"] == 1
    assert scores["cells"] < 0.99


def test_nothing_but_the_validation_split_is_read(records, monkeypatch):
    splits = []
    read = tuning.read_records
    monkeypatch.setattr(
        tuning, "read_records", lambda path, manifest, split: splits.append(split)
        or read(path, manifest, split),
    )  # fmt: skip
    for objective in ("segmentation_accuracy", "dice"):
        tune(records, bright, objective=objective)
    assert splits == ["val", "val"]


def test_without_validation_images_nothing_is_tuned(tmp_path):
    references = synthetic_references({"train": 1, "test": 1}, seed=0, size=(64, 80))
    write_records(references, tmp_path / "records", maps=(), workers=1)
    with pytest.raises(InputError, match=r"no images in split 'val', and nothing else may be"):
        tune(tmp_path / "records", bright)


def test_what_was_tuned_is_read_back_as_overrides(tmp_path):
    assert tuned_overrides(tmp_path) == []
    rules = InstanceRules(threshold=0.425, minimum_area=30, seed_prominence=0.05, seed_smoothing=3)
    chosen = Tuned(rules, 0.912, 0.9, "dice", 5)
    path = write_tuned(tmp_path, chosen)
    assert "5 validation images by dice: 0.9120" in path.read_text()
    config = load(overrides=[*tuned_overrides(tmp_path), "evaluate.minimum_area=3"])
    assert (config.evaluate.threshold, config.evaluate.minimum_area) == (0.425, 3)
    assert config.evaluate.seed_prominence == 0.2, "seeds are the watershed's"
    write_tuned(tmp_path, replace(chosen, rules=replace(rules, method="watershed")))
    tuned = load(overrides=tuned_overrides(tmp_path)).evaluate
    assert (tuned.seed_prominence, tuned.seed_smoothing) == (0.05, 3)
    for damaged in ("evaluate", "- 1", "evaluate: [1]", "{"):
        path.write_text(damaged)
        with pytest.raises(InputError, match=r"tuned\.yaml is damaged: remove it, or tune again"):
            tuned_overrides(tmp_path)


def test_the_method_tuned_for_is_read_back_whatever_the_config_says(tmp_path, records):
    start = InstanceRules(method="watershed", minimum_area=0)
    tuned = tune(records, bright, rules=start)
    write_tuned(tmp_path, tuned)
    overrides = [*tuned_overrides(tmp_path), f"records.path={records}", "evaluate.split=val"]
    found = score_split(load(overrides=overrides), bright).results()["overall"]
    assert found["segmentation_accuracy"] == pytest.approx(tuned.score, abs=1e-12)
    write_tuned(tmp_path, replace(tuned, rules=InstanceRules()))
    config = load(overrides=["evaluate.method=watershed", *tuned_overrides(tmp_path)])
    assert config.evaluate.method == "components"


def test_what_the_command_line_gave_is_kept_beside_the_choice(tmp_path):
    rules = [
        "evaluate.tta=true", "evaluate.ensemble=[runs/a,runs/b]", "evaluate.grow_pixels=3",
        "evaluate.threshold=0.3", "evaluate.tile=64",
    ]  # fmt: skip
    others = ["evaluate.split=val", "evaluate.membranes=true", "seed=3"]
    settings = load(overrides=[*rules, *others]).evaluate
    given = given_values([*rules, *others], settings)
    write_tuned(tmp_path, Tuned(InstanceRules(threshold=0.4), 0.9, 0.9, "dice", 5), given)
    found = load(overrides=tuned_overrides(tmp_path)).evaluate
    assert found == replace(settings, threshold=0.4, split="test", membranes=False)
    assert found.ensemble == ("runs/a", "runs/b")


def test_a_section_given_at_once_is_kept_too():
    overrides = ["evaluate={threshold: 0.3, tta: true, split: val}", "evaluate.tile=64"]
    given = given_values(overrides, load(overrides=overrides).evaluate)
    assert given == {"threshold": 0.3, "tta": True, "tile": 64}


def test_values_older_than_the_model_are_warned_of(tmp_path, caplog):
    path = write_tuned(tmp_path, Tuned(InstanceRules(threshold=0.4), 0.9, 0.9, "dice", 5))
    model = tmp_path / "model.keras"
    model.touch()
    os.utime(model, (path.stat().st_mtime - 10,) * 2)
    with caplog.at_level(logging.WARNING):
        tuned_overrides(tmp_path)
        assert not caplog.records
        os.utime(model, (path.stat().st_mtime + 10,) * 2)
        assert len(tuned_overrides(tmp_path)) == 3
    assert "is older than the run's model: tune again" in caplog.text
    shutil.rmtree(tmp_path)
