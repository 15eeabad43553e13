"""AP and AR equal pycocotools on random instances that overlap, tie and exceed every limit."""

import contextlib
import io

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from unet_keras.evaluation.detection import (
    average_precision,
    detect,
    instance_scores,
    resampled_precision,
)
from unet_keras.evaluation.overlaps import label_overlaps, outline_overlaps


def blobs(random, size, count):
    """Masks of ellipses, bool (n, H, W), which overlap."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks = []
    for _ in range(count):
        row, column = random.uniform(0, size[0]), random.uniform(0, size[1])
        a, b = random.uniform(1.5, 22, 2)
        masks.append(((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 <= 1)
    return np.array(masks, bool).reshape(-1, *size)


def disturbed(random, masks, size):
    """A predicted label map: most masks a little moved, some lost, some invented."""
    labels = np.zeros(size, np.uint16)
    kept = [mask for mask in masks if random.random() < 0.85]
    for number, mask in enumerate([*kept, *blobs(random, size, 3)], 1):
        labels[np.roll(mask, random.integers(-2, 3, 2), (0, 1))] = number
    return labels


def counts(masks):
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]


def reference(images):
    """COCOeval over (size, true RLE counts, predicted RLE counts, scores)."""
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}], "info": {}}
    results = []
    for number, (size, outlines, predicted, scores) in enumerate(images, 1):
        truth["images"].append({"id": number, "height": size[0], "width": size[1]})
        for outline in outlines:
            code = {"size": list(size), "counts": outline}
            area = float(coco_mask.area(code))
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1,
                 "segmentation": code, "area": area, "iscrowd": 0,
                 "bbox": coco_mask.toBbox(code).tolist()}
            )  # fmt: skip
        for outline, score in zip(predicted, scores, strict=True):
            code = {"size": list(size), "counts": outline}
            results.append(
                {"image_id": number, "category_id": 1, "segmentation": code, "score": float(score)}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        evaluator = COCOeval(gold, gold.loadRes(results), "segm")
        evaluator.params.areaRng = [[0, 1e10], [0, 18**2], [18**2, 31**2], [31**2, 1e10]]
        evaluator.params.areaRngLbl = ["all", "small", "medium", "large"]
        evaluator.params.maxDets = [100, 500, 2000]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval


def mean(values):
    values = values[values > -1]
    return values.mean() if values.size else None


@pytest.mark.parametrize("seed", range(12))
def test_equals_cocoeval(seed):
    random = np.random.default_rng(seed)
    images, detections = [], []
    for _ in range(4):
        size = tuple(int(side) for side in random.integers(40, 90, 2))
        masks = blobs(random, size, int(random.integers(0, 25)))
        predicted = disturbed(random, masks, size)
        # coarse probabilities, so that many scores are equal
        probability = random.integers(0, 3, size).astype(np.float32) / 2
        probability[:, ::2] = 1.0 if seed % 2 else probability[:, ::2]
        overlaps = outline_overlaps(counts(masks), predicted)
        scores = instance_scores(probability, overlaps, predicted)
        detections.append(detect(overlaps, scores))
        parts = [predicted == number for number in overlaps.predicted_numbers]
        images.append((size, counts(masks), counts(parts), scores))
    result, expected = average_precision(detections), reference(images)
    precision, recall = expected["precision"], expected["recall"]
    assert result["ap"] == pytest.approx(mean(precision[:, :, 0, 0, 2]), abs=1e-12)
    assert result["ap50"] == pytest.approx(mean(precision[0, :, 0, 0, 2]), abs=1e-12)
    assert result["ap75"] == pytest.approx(mean(precision[5, :, 0, 0, 2]), abs=1e-12)
    for index, area in enumerate(("small", "medium", "large"), 1):
        assert result[f"ap_{area}"] == pytest.approx(mean(precision[:, :, 0, index, 2]), abs=1e-12)
        assert result[f"ar_{area}"] == pytest.approx(mean(recall[:, 0, index, 2]), abs=1e-12)
    for index, maximum in enumerate((100, 500, 2000)):
        assert result[f"ar_{maximum}"] == pytest.approx(mean(recall[:, 0, 0, index]), abs=1e-12)
    assert result["afnr"] == pytest.approx(1 - result["ar_2000"])


def test_detections_beyond_the_limit_do_not_count():
    # 2,304 squares of 4 pixels; perfect predictions beyond the 100th and the 2000th are cut off
    truth = np.kron(np.arange(1, 48 * 48 + 1).reshape(48, 48), np.ones((2, 2), int))
    overlaps = label_overlaps(truth, truth)
    result = average_precision([detect(overlaps, np.linspace(1, 0, 48 * 48))])
    assert result["ar_100"] == pytest.approx(100 / 2304)
    assert result["ar_500"] == pytest.approx(500 / 2304)
    assert result["ar_2000"] == pytest.approx(2000 / 2304)
    # recall never passes 2000/2304: of 101 recall levels those up to it have precision 1
    assert result["ap"] == pytest.approx(sum(k / 100 <= 2000 / 2304 for k in range(101)) / 101)
    assert result["ap_medium"] is None


def test_nothing_true_and_nothing_predicted():
    empty, cell = np.zeros((8, 8), np.uint16), np.pad(np.ones((4, 4), np.uint16), 2)
    nothing = detect(label_overlaps(empty, empty), np.zeros(0))
    false = detect(label_overlaps(empty, cell), np.array([0.9]))
    missed = detect(label_overlaps(cell, empty), np.zeros(0))
    assert average_precision([])["ap"] is None
    assert average_precision([nothing])["ap"] is None
    assert average_precision([false])["ap"] is None
    assert average_precision([nothing, missed])["ap"] == 0.0
    assert average_precision([nothing, missed])["afnr"] == 1.0


def test_score_is_the_mean_probability_inside():
    labels = np.array([[0, 3, 3], [7, 7, 3]], np.uint16)
    probability = np.array([[1.0, 0.5, 0.7], [0.2, 0.4, 0.6]], np.float32)
    overlaps = label_overlaps(labels, labels)
    np.testing.assert_allclose(instance_scores(probability, overlaps, labels), [0.6, 0.3], 1e-6)
    large = np.where(labels == 3, 5, labels.astype(np.uint64) * 10**9)
    scores = instance_scores(probability, label_overlaps(large, large), large)
    np.testing.assert_allclose(scores, [0.6, 0.3], 1e-6)
    empty = np.zeros_like(labels)
    assert not len(instance_scores(probability, label_overlaps(empty, empty), empty))


def test_resampled_precision_of_every_image_once_is_the_precision():
    random = np.random.default_rng(7)
    detections = []
    for _ in range(5):
        masks = blobs(random, (60, 70), 20)
        predicted = disturbed(random, masks, (60, 70))
        overlaps = outline_overlaps(counts(masks), predicted)
        scores = instance_scores(random.random((60, 70)), overlaps, predicted)
        detections.append(detect(overlaps, scores))
    times = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 2]])
    once, drawn = resampled_precision(detections, times)
    result = average_precision(detections)
    assert once.mean() == pytest.approx(result["ap"])
    assert (once[0], once[5]) == (pytest.approx(result["ap50"]), pytest.approx(result["ap75"]))
    # drawing an image twice is having it twice
    twice = average_precision([detections[k] for k in (0, 0, 2, 4, 4)])
    assert drawn.mean() == pytest.approx(twice["ap"], abs=5e-3)
    assert len(resampled_precision(detections, np.zeros((1, 5), int))) == 0
