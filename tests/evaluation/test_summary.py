"""The accumulator: its numbers are those of the functions it uses; sizes, gaps and emptiness."""

import json

import numpy as np
import pytest

from unet_keras.errors import InputError
from unet_keras.evaluation.detection import average_precision, detect, instance_scores
from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.evaluation.membranes import score_membranes, thresholds_with
from unet_keras.evaluation.overlaps import outline_overlaps
from unet_keras.evaluation.pixels import PixelCounts, count_pixels
from unet_keras.evaluation.summary import AVERAGED, MEMBRANES, Evaluation

from .made_cases import made_case

GROUP_KEYS = {
    "images", "truth_instances", "predicted_instances", "found_instances", "merged_instances",
    "split_instances", "inexact_instances", "missed_instances", "false_instances",
    "dice", "iou", "precision", "recall", "accuracy", "pixel_error", "dice_mean_of_images",
    "segmentation_accuracy", "segmentation_accuracy_50", "panoptic_quality", "seg",
    "instance_f1_50", "instance_precision_50", "instance_recall_50", "boundary_f1",
    "dice_of_instances", "segmentation_accuracy_label_map", "segmentation_accuracy_pooled",
    "ceiling_label_map", "ceiling_foreground",
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar_100", "ar_500", "ar_2000", "ar_small", "ar_medium", "ar_large", "afnr",
    "count_r2", "count_error",
}  # fmt: skip


@pytest.fixture(scope="module")
def cases():
    return [made_case(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def evaluation(cases):
    evaluation = Evaluation(threshold=0.4)
    for case in cases:
        evaluation.add(**case)
    return evaluation


@pytest.fixture(scope="module")
def results(evaluation):
    return evaluation.results()


def test_keys_are_stable(results):
    assert set(results) == {
        "version", "threshold", "overall", "groups", "intervals", "images", "membranes",
        "classes", "iou_thresholds", "thresholds", "calibration",
    }  # fmt: skip
    extra = {"calibration_error", "best_threshold", "best_dice"}
    assert set(results["overall"]) == GROUP_KEYS | extra
    assert set(results["groups"]) == {"flat", "round"}
    assert all(set(scores) == GROUP_KEYS for scores in results["groups"].values())
    assert set(results["intervals"]) == {"dice", "iou", "ap", "ap50", "ap75", *AVERAGED}
    assert [row["file_name"] for row in results["images"]] == [f"cells_{n}.tif" for n in range(5)]


def test_everything_is_json_without_nan(results):
    text = json.dumps(results, allow_nan=False)
    assert json.loads(text) == results


def test_pixels_are_summed_over_images(cases, results):
    counts = [count_pixels(c["foreground"], c["probability"], threshold=0.4) for c in cases]
    assert results["overall"]["dice"] == sum(counts, PixelCounts()).dice
    assert results["groups"]["flat"]["iou"] == (counts[0] + counts[2] + counts[4]).iou
    assert results["images"][3]["recall"] == counts[3].recall
    assert results["membranes"] is None
    low, high = results["intervals"]["dice"]
    assert low < results["overall"]["dice"] < high


def test_instances_are_compared_with_the_outlines_and_averaged(cases, results):
    scores = [
        segmentation_accuracy(c["outlines"], c["predicted_labels"])["segmentation_accuracy"]
        for c in cases
    ]
    on_labels = segmentation_accuracy(cases[1]["truth_labels"], cases[1]["predicted_labels"])
    assert results["overall"]["segmentation_accuracy"] == pytest.approx(np.mean(scores))
    assert results["images"][1]["segmentation_accuracy"] == scores[1]
    row = results["images"][1]
    assert row["segmentation_accuracy_label_map"] == on_labels["segmentation_accuracy"]
    # the predictions are the label map without two cells: what it lost under others shows
    assert scores[1] < on_labels["segmentation_accuracy"] < 1
    assert row["ceiling_label_map"] < 1
    curve = [point["accuracy"] for point in results["iou_thresholds"]]
    assert np.mean(curve) == pytest.approx(results["overall"]["segmentation_accuracy"])


def test_precision_ranks_all_instances_together(cases, results):
    detections = []
    for case in cases:
        overlaps = outline_overlaps(case["outlines"], case["predicted_labels"])
        scores = instance_scores(case["probability"], overlaps, case["predicted_labels"])
        detections.append(detect(overlaps, scores))
    expected = average_precision(detections)
    assert {name: results["overall"][name] for name in expected} == expected


def test_curves_and_best_threshold(results):
    at_half = next(point for point in results["thresholds"] if point["threshold"] == 0.4)
    assert at_half["dice"] == results["overall"]["dice"]
    # probabilities are 0.1 and 0.8: every threshold between is equally good
    assert results["overall"]["best_threshold"] == 0.5
    assert results["overall"]["best_dice"] == results["overall"]["dice"]
    assert [round(point["probability"], 3) for point in results["calibration"]] == [0.1, 0.8]


def test_without_outlines_the_label_map_is_the_truth(cases):
    evaluation = Evaluation()
    case = {**cases[0], "outlines": None, "foreground": None}
    case["probability"] = case["probability"][..., np.newaxis]
    row = evaluation.add(**case)
    assert row["segmentation_accuracy"] == row["segmentation_accuracy_label_map"]
    assert row["ceiling_label_map"] is None
    overall = evaluation.results()["overall"]
    assert overall["ceiling_label_map"] is None
    assert (
        overall["dice"] == count_pixels(case["truth_labels"] > 0, case["probability"][..., 0]).dice
    )


def test_ignored_pixels_do_not_count(cases):
    case = {**cases[0], "predicted_labels": cases[0]["truth_labels"]}
    ignore = case["foreground"] != (case["probability"] >= 0.5)
    row = Evaluation().add(**case, ignore=ignore)
    assert row["dice"] == row["accuracy"] == 1.0


def test_segments_between_membranes_are_scored_where_asked_for(cases):
    evaluation = Evaluation(threshold=0.35, membranes=True)
    for case in cases[:2]:
        evaluation.add(**case)
    results = evaluation.results()
    found = results["membranes"]
    assert [point["threshold"] for point in found["curve"]] == [*thresholds_with(0.35)]
    scores = [
        score_membranes(c["truth_labels"], c["foreground"], c["probability"], threshold=0.35)
        for c in cases[:2]
    ]
    assert [row["v_rand"] for row in results["images"]] == [s.v_rand for s in scores]
    assert found["at_threshold"]["v_info"] == pytest.approx(np.mean([s.v_info for s in scores]))
    assert found["at_threshold"]["pixel_error"] == pytest.approx(
        np.mean([row["pixel_error"] for row in results["images"]])
    )
    assert set(MEMBRANES) <= set(results["intervals"])
    json.dumps(results, allow_nan=False)


def test_one_image_has_no_interval(cases):
    evaluation = Evaluation()
    evaluation.add(**cases[0])
    results = evaluation.results()
    assert results["intervals"] == {}
    assert results["overall"]["count_r2"] is None
    assert len(evaluation.examples.best()) == 1
    assert evaluation.examples.worst() == []


def test_nothing_true_and_nothing_predicted():
    size = (20, 30)
    empty = made_case(0, size=size, cells=0, error=0.0)
    full = {
        **empty,
        "file_name": "false.tif",
        "predicted_labels": np.ones(size, np.uint16),
        "probability": np.ones(size, np.float32),
    }
    evaluation = Evaluation()
    row = evaluation.add(**empty)
    assert row["dice"] == row["segmentation_accuracy"] == row["boundary_f1"] == 1.0
    assert evaluation.results()["overall"]["ap"] is None
    row = evaluation.add(**full)
    assert row["dice"] == row["segmentation_accuracy"] == row["panoptic_quality"] == 0.0
    results = evaluation.results()
    assert results["overall"]["segmentation_accuracy"] == 0.5
    assert results["overall"]["ap"] is None
    assert "ap" not in results["intervals"]
    json.dumps(results, allow_nan=False)


def test_no_image_is_an_error():
    with pytest.raises(InputError, match="No image was evaluated"):
        Evaluation().results()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("predicted_labels", np.zeros((96, 72), np.uint16), "predicted label map has 96 x 72"),
        ("probability", np.zeros((10, 10), np.float32), "probability map has 10 x 10 pixels"),
        ("probability", np.zeros((72, 96, 3), np.float32), "has 72 x 96 x 3"),
        ("probability", np.full((72, 96), 7.0), r"holds values from 7.0 to 7.0"),
        ("truth_labels", np.zeros((1, 1), np.uint16), "truth has 1 x 1 pixels"),
        ("predicted_labels", np.zeros((72, 96)), "must be integer"),
        ("outlines", (b"04",), r"outlines\[0\]"),
    ],
)
def test_errors_name_the_file_and_leave_nothing_behind(cases, name, value, message):
    evaluation = Evaluation()
    with pytest.raises(InputError, match=rf"^cells_2.tif: .*{message}") as error:
        evaluation.add(**{**cases[2], name: value})
    assert "\n" not in str(error.value)
    assert len(evaluation) == 0
    assert not evaluation.histogram.background.any()


def test_examples_are_the_best_and_the_worst():
    evaluation, scores = Evaluation(examples=2), {}
    for seed in range(9):
        case = made_case(seed, size=(40, 50), cells=6)
        case["predicted_labels"] = np.where(
            np.isin(case["truth_labels"], range(1, seed % 5 + 1)), 0, case["truth_labels"]
        )
        row = evaluation.add(**case)
        scores[row["file_name"]] = (row["segmentation_accuracy"], row["dice"])
    ranked = sorted(scores, key=scores.get)
    assert [example.file_name for example in evaluation.examples.worst()] == ranked[:2]
    assert [example.file_name for example in evaluation.examples.best()] == ranked[:-3:-1]
    pictures = evaluation.examples.best()[0].pictures
    assert {picture.shape for picture in pictures.values()} == {(40, 50, 3)}


def test_memory_does_not_hold_the_images(cases):
    evaluation = Evaluation(examples=1)
    drawn = 0
    for repeat in range(12):
        case = {**cases[repeat % 5], "file_name": f"{repeat}.tif"}
        before = {id(e) for e in evaluation.examples.best() + evaluation.examples.worst()}
        evaluation.add(**case)
        after = {id(e) for e in evaluation.examples.best() + evaluation.examples.worst()}
        drawn += len(after - before)
    # equal scores are not drawn again
    assert drawn <= 5


def test_thousands_of_instances():
    cells = 3000
    labels = np.zeros((520, 704), np.uint16)
    labels[:516, :700] = np.kron(np.arange(1, 43 * 70 + 1).reshape(43, 70), np.ones((12, 10), int))
    labels[labels > cells] = 0
    evaluation = Evaluation()
    shifted = np.roll(labels, 1, axis=1)
    probability = (labels > 0).astype(np.float32)
    row = evaluation.add("many.tif", "tiles", labels, labels, None, probability, shifted)
    assert row["truth_instances"] == row["predicted_instances"] == cells
    assert row["segmentation_accuracy_50"] > 0.99
    assert evaluation.results()["overall"]["ar_2000"] < 2000 / 3000
