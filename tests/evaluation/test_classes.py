"""Classes told apart: the rule of training, mistakes that joined scores do not see, the report."""

import numpy as np
import pytest
from PIL import Image

from unet_keras.config import load
from unet_keras.evaluation.classes import TOGETHER, ClassCounts, class_map
from unet_keras.evaluation.report import write_report
from unet_keras.evaluation.scoring import score_split
from unet_keras.model.metrics import Dice, IoU
from unet_keras.records.writer import write_records
from unet_keras.sources.folders import folder_references
from unet_keras.targets.labels import separate_touching

NAMES = ("background", "class 1", "class 2")


def test_scores_are_those_of_the_metrics_of_training():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (3, 16, 20, 3)).astype(np.float32)
    truth = random.integers(0, 3, (3, 16, 20)).astype(np.int32)
    counts = ClassCounts(NAMES)
    for image, values in zip(truth, logits, strict=True):
        counts.add(image, np.exp(values) / np.exp(values).sum(-1, keepdims=True))
    rows = {row["name"]: row for row in counts.scores()}
    assert list(rows) == ["class 1", "class 2", TOGETHER]
    for name, index in (("class 1", 1), ("class 2", 2), (TOGETHER, None)):
        for key, metric in (("dice", Dice(index)), ("iou", IoU(index))):
            metric.update_state(truth, logits)
            assert rows[name][key] == pytest.approx(float(metric.result()), abs=1e-6)


def test_the_class_of_an_instance_is_that_of_its_pixels_but_where_it_was_parted():
    labels = np.array([[1, 1, 2, 2, 0, 3]])
    foreground = np.array([[True, False, False, True, False, True]])
    assert class_map(labels, np.array([2, 1, 2]), foreground).tolist() == [[2, 0, 0, 1, 0, 2]]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two classes of cells, which touch; their grey value tells which is which."""
    folder = tmp_path_factory.mktemp("classes")
    mask = np.zeros((40, 48), np.uint8)
    mask[4:20, 4:20], mask[4:20, 20:40], mask[24:36, 8:30] = 1, 2, 2
    for part, scale in (("images", 80), ("masks", 1)):
        (folder / part).mkdir()
        Image.fromarray(mask * scale).save(folder / part / "cells_1.png")
    pairs = folder_references(
        folder / "images", folder / "masks", kind="classes", fractions=(0.0, 0.0, 1.0)
    )
    write_records(pairs, folder / "records", maps=(), workers=1)
    return folder / "records"


def scored(records, order):
    def predictor(image):
        classes = image.reshape(image.shape[:2]) // 80
        parted = separate_touching(classes) > 0
        return np.eye(3, dtype=np.float32)[order][np.where(parted, classes, 0)]

    return score_split(load(overrides=[f"records.path={records}"]), predictor).results()


def test_cells_of_the_wrong_class_are_wrong_here_and_nowhere_else(records):
    right, swapped = scored(records, [0, 1, 2]), scored(records, [0, 2, 1])
    assert right["overall"] == swapped["overall"]
    assert right["overall"]["dice"] == 1
    assert [row["dice"] for row in right["classes"]] == [1, 1, 1]
    assert [row["dice"] for row in swapped["classes"]] == [0, 0, 0]


def test_the_report_and_the_table_have_a_row_for_each_class(records, tmp_path):
    results = scored(records, [0, 1, 1])
    write_report(tmp_path, results)
    table = (tmp_path / "table.md").read_text().split("\n\n")[1]
    assert [line.split("|")[1].strip() for line in table.splitlines()] == [
        "class", "---", "class 1", "class 2", TOGETHER,
    ]  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    first, second, together = (f"{row['dice']:.3f}" for row in results["classes"])
    assert 0 < float(first) < 1
    assert second == "0.000"
    for name, dice in (("class 1", first), ("class 2", second), (TOGETHER, together)):
        assert f"<th>{name}</th>\n<td>{dice}</td>" in page
    assert "counts as right there" in page


def test_distances_join_the_classes(records):
    config = load(
        overrides=[f"records.path={records}", "loss.distance=1", "records.maps=[border,distance]"]
    )
    results = score_split(config, lambda image: np.zeros((*image.shape[:2], 1), np.float32))
    assert results.results()["classes"] is None
