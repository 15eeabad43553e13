"""Every score of `metrics.json` again, from raw masks and by the definitions alone."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from unet_keras.evaluation.detection import average_precision, detect, instance_scores
from unet_keras.evaluation.instances import score_instances
from unet_keras.evaluation.overlaps import label_overlaps, outline_overlaps
from unet_keras.evaluation.summary import AVERAGED, CEILINGS, Evaluation

from .made_cases import made_case
from .test_detection import counts, mean, reference

THRESHOLD = 0.4
LEVELS = [level / 100 for level in range(50, 100, 5)]
CROSS = ndimage.generate_binary_structure(2, 1)


def noisy_case(seed):
    """A prediction with every kind of error: moved, grown, merged, split, lost and invented."""
    case, random = made_case(seed, size=(64, 80), cells=11 + 2 * seed), np.random.default_rng(seed)
    labels = np.roll(case["truth_labels"], (1, seed % 2), (0, 1))
    labels = np.where(labels > 0, labels, ndimage.grey_dilation(labels * (labels % 3 == 0), 7))
    labels[labels == 4], labels[labels == 1] = 5, 0
    labels[(labels == 6) & (np.arange(80) % 8 < 4)] = 60
    labels[np.isin(labels, range(8, 8 + seed))], labels[2:7, 2 : 9 + seed] = 0, 70
    if seed == 0:
        labels[-4:, ::9] = range(81, 90)
    noise = ndimage.gaussian_filter(random.normal(0, 1, labels.shape), 1)
    probability = np.clip(0.2 + 0.5 * case["foreground"] + 0.5 * noise, 0, 1).astype(np.float32)
    learned = ndimage.label(case["foreground"])[0]
    return {**case, "predicted_labels": labels, "probability": probability, "learned": learned}


def ratio(numerator, denominator):
    return numerator / denominator if denominator else 1.0


def parts(labels):
    return [labels == number for number in np.unique(labels[labels > 0])]


def decoded(case):
    size = case["truth_labels"].shape
    codes = [{"size": size, "counts": outline} for outline in case["outlines"]]
    return [coco_mask.decode(code).astype(bool) for code in codes]


def pixel_counts(truth, predicted):
    return np.array([(truth & predicted).sum(), (~truth & predicted).sum(),
                     (truth & ~predicted).sum(), (~truth & ~predicted).sum()])  # fmt: skip


def pixel_scores(found):
    hits, false, missed, rest = found
    return {
        "dice": ratio(2 * hits, 2 * hits + false + missed),
        "iou": ratio(hits, hits + false + missed),
        "precision": ratio(hits, hits + false),
        "recall": ratio(hits, hits + missed),
        "accuracy": (hits + rest) / found.sum(),
        "pixel_error": (false + missed) / found.sum(),
    }


def table(truth, predicted):
    """Shared pixels of, and IoU of, each true with each predicted mask."""
    shared = np.array([[(t & p).sum() for p in predicted] for t in truth])
    union = np.array([[(t | p).sum() for p in predicted] for t in truth])
    return shared, shared / union


def matched(iou, level):
    """The pairs of the assignment with most matches, then the largest IoU."""
    gain = np.where(iou >= level, 1 + iou / (2 * min(iou.shape)), 0)
    return [(t, p) for t, p in zip(*linear_sum_assignment(-gain), strict=True) if gain[t, p]]


def hits_of(truth, predicted):
    iou = table(truth, predicted)[1]
    return np.array([len(matched(iou, level)) for level in LEVELS])


def accuracies(hits, truth, predicted):
    return hits / (truth + predicted - hits)


def instance_row(truth, predicted):
    shared, iou = table(truth, predicted)
    hits, pairs = hits_of(truth, predicted), matched(iou, 0.5)
    accuracy = accuracies(hits, len(truth), len(predicted))
    total = len(truth) + len(predicted)
    covered = [
        iou[t, p]
        for t in range(len(truth))
        for p in range(len(predicted))
        if shared[t, p] > truth[t].sum() / 2
    ]
    return {
        "segmentation_accuracy": accuracy.mean(),
        "segmentation_accuracy_50": accuracy[0],
        "panoptic_quality": sum(iou[t, p] for t, p in pairs) / (total / 2),
        "seg": sum(covered) / len(truth),
        "instance_f1_50": 2 * hits[0] / total,
        "instance_precision_50": hits[0] / len(predicted),
        "instance_recall_50": hits[0] / len(truth),
    }


def fates(truth, predicted):
    """In the words of `fates.py`, the first that fits."""
    shared, iou = table(truth, predicted)
    pairs = matched(iou, 0.5)
    found, used = ({pair[side] for pair in pairs} for side in (0, 1))
    holds = shared > np.array([[t.sum() / 2] for t in truth])
    inside = shared > np.array([[p.sum() / 2 for p in predicted]])
    names = []
    for t, mask in enumerate(truth):
        if t in found:
            names.append("found")
        elif any(holds[t, p] and holds[:, p].sum() > 1 for p in range(len(predicted))):
            names.append("merged")
        elif inside[t].sum() > 1:
            names.append("split")
        else:
            names.append("missed" if shared[t].sum() < mask.sum() / 2 else "inexact")
    false = [
        p for p, mask in enumerate(predicted)
        if p not in used and not holds[:, p].any() and shared[:, p].sum() < mask.sum() / 2
    ]  # fmt: skip
    kinds = ("found", "merged", "split", "inexact", "missed")
    return {**{f"{kind}_instances": names.count(kind) for kind in kinds},
            "false_instances": len(false)}  # fmt: skip


def boundary_f1(truth, predicted):
    rims = []
    for labels in (truth, predicted):
        highest, lowest = (
            extreme(labels, footprint=CROSS, mode="nearest")
            for extreme in (ndimage.maximum_filter, ndimage.minimum_filter)
        )
        rims.append((labels > 0) & (highest != lowest))
    near = [ndimage.distance_transform_edt(~rim) <= 2 for rim in rims]
    precision = (rims[1] & near[0]).sum() / rims[1].sum()
    recall = (rims[0] & near[1]).sum() / rims[0].sum()
    return 2 * precision * recall / (precision + recall)


def row_of(case):
    truth, labels, predicted = decoded(case), case["truth_labels"], case["predicted_labels"]
    found = parts(predicted)
    instances = instance_row(truth, found)
    foreground = case["probability"] >= np.float32(THRESHOLD)
    union = pixel_scores(pixel_counts(labels > 0, predicted > 0))
    accuracy = "segmentation_accuracy"
    return {
        "file_name": case["file_name"],
        "group": case["group"],
        "truth_instances": len(truth),
        "predicted_instances": len(found),
        **fates(truth, found),
        **pixel_scores(pixel_counts(case["foreground"], foreground)),
        "dice_of_instances": union["dice"],
        **instances,
        "boundary_f1": boundary_f1(labels, predicted),
        "segmentation_accuracy_label_map": instance_row(parts(labels), found)[accuracy],
        "ceiling_label_map": instance_row(truth, parts(labels))[accuracy],
        "ceiling_foreground": instance_row(truth, parts(case["learned"]))[accuracy],
    }


def coco(cases):
    """AP and AR of all images by pycocotools."""
    images = []
    for case in cases:
        masks = parts(case["predicted_labels"])
        sure = [case["probability"][mask].astype(float).mean() for mask in masks]
        images.append((case["image"].shape, case["outlines"], counts(masks), sure))
    result = reference(images)
    precision, recall = result["precision"][:, :, 0, :, 2], result["recall"][:, 0]
    areas = ("small", "medium", "large")
    return {
        "ap": mean(precision[:, :, 0]),
        "ap50": mean(precision[0, :, 0]),
        "ap75": mean(precision[5, :, 0]),
        **{f"ap_{area}": mean(precision[:, :, k]) for k, area in enumerate(areas, 1)},
        **{f"ar_{area}": mean(recall[:, k, 2]) for k, area in enumerate(areas, 1)},
        **{f"ar_{most}": mean(recall[:, 0, k]) for k, most in enumerate((100, 500, 2000))},
        "afnr": 1 - mean(recall[:, 0, 2]),
    }


def summary_of(cases):
    rows = [row_of(case) for case in cases]
    pixels = sum(
        pixel_counts(case["foreground"], case["probability"] >= np.float32(THRESHOLD))
        for case in cases
    )
    true, predicted = (
        np.array([row[f"{side}_instances"] for row in rows]) for side in ("truth", "predicted")
    )
    hits = sum(hits_of(decoded(case), parts(case["predicted_labels"])) for case in cases)
    return {
        "images": len(rows),
        **{key: sum(row[key] for row in rows) for key in rows[0] if key.endswith("_instances")},
        **pixel_scores(pixels),
        "dice_mean_of_images": np.mean([row["dice"] for row in rows]),
        **{name: np.mean([row[name] for row in rows]) for name in AVERAGED + CEILINGS},
        "segmentation_accuracy_pooled": accuracies(hits, true.sum(), predicted.sum()).mean(),
        **coco(cases),
        # Two images tell nothing of it.
        "count_r2": 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
        if len(rows) > 2
        else None,
        "count_error": np.abs(true - predicted).mean(),
    }


def of_probabilities(cases):
    """Calibration error in ten bins, and the best threshold in thousandths."""
    probability = np.concatenate([case["probability"].ravel() for case in cases])
    truth = np.concatenate([case["foreground"].ravel() for case in cases])
    bins = np.digitize(probability, np.arange(1, 10, dtype=np.float32) / np.float32(10))
    error = sum(
        (bins == k).mean()
        * abs(probability[bins == k].astype(float).mean() - truth[bins == k].mean())
        for k in np.unique(bins)
    )
    dice = [
        pixel_scores(pixel_counts(truth, probability >= np.float32(step / 1000)))["dice"]
        for step in range(1, 1001)
    ]
    best = max(range(1000), key=lambda k: (dice[k], -abs(k + 1 - 500)))
    return {
        "calibration_error": error, "best_threshold": (best + 1) / 1000, "best_dice": dice[best],
    }  # fmt: skip


def intervals_of(cases, rows):
    """Percentiles over resampled images, drawn as the package draws them."""
    images = len(cases)
    times = np.random.default_rng(0).multinomial(images, [1 / images] * images, 2000)
    pixels = np.array([
        pixel_counts(case["foreground"], case["probability"] >= np.float32(THRESHOLD))
        for case in cases
    ])  # fmt: skip
    drawn = {name: times @ [row[name] for row in rows] / images for name in AVERAGED}
    for name in ("dice", "iou"):
        drawn[name] = np.array([pixel_scores(found)[name] for found in times @ pixels])
    detections = []
    for case in cases:
        overlaps = outline_overlaps(case["outlines"], case["predicted_labels"])
        sure = instance_scores(case["probability"], overlaps, case["predicted_labels"])
        detections.append(detect(overlaps, sure))
    again = [
        average_precision([detections[k] for k in np.repeat(range(images), row)])
        for row in times[:200]
    ]
    drawn |= {name: np.array([one[name] for one in again]) for name in ("ap", "ap50", "ap75")}
    return {name: np.quantile(values, [0.025, 0.975]) for name, values in drawn.items()}


@pytest.fixture(scope="module")
def cases():
    return [noisy_case(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def results(cases):
    evaluation = Evaluation(threshold=THRESHOLD, examples=0)
    for case in cases:
        evaluation.add(**case)
    return evaluation.results()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        wanted = value if isinstance(value, str | None) else pytest.approx(value, abs=1e-9)
        assert found[name] == wanted, name


def test_the_cases_hold_every_error(results):
    more = [row["predicted_instances"] - row["truth_instances"] for row in results["images"]]
    assert min(more) < 0 < max(more)
    kinds = ("found", "merged", "split", "inexact", "missed", "false")
    assert all(results["overall"][f"{kind}_instances"] for kind in kinds), results["overall"]


def test_rows(cases, results):
    for row, case in zip(results["images"], cases, strict=True):
        row = dict(row)
        assert len(row.pop("truth_digest")) == 16
        assert_equal(row, row_of(case))


def test_overall_and_groups(cases, results):
    assert_equal(results["overall"], summary_of(cases) | of_probabilities(cases))
    assert set(results["groups"]) == {"flat", "round"}
    for group, scores in results["groups"].items():
        assert_equal(scores, summary_of([case for case in cases if case["group"] == group]))


def test_intervals(cases, results):
    expected = intervals_of(cases, results["images"])
    assert results["intervals"].keys() == expected.keys()
    for name, ends in expected.items():
        # an image that is drawn twice is ranked at once there, one after the other here
        tolerance = 0.01 if name.startswith("ap") else 1e-9
        np.testing.assert_allclose(results["intervals"][name], ends, atol=tolerance, err_msg=name)
    assert abs(np.subtract(expected["ap50"], expected["ap75"])).min() > 0.05


@pytest.mark.parametrize("seed", range(30))
def test_seg_takes_the_share_of_the_truth_that_is_covered(seed):
    """On tiny random maps, where shares of exactly one half and large predictions are common."""
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 4, (3, 4)), np.ones((2, 2), int))
    predicted = np.kron(random.integers(0, 3, (2, 8)), np.ones((3, 1), int))
    scores = score_instances(label_overlaps(truth, predicted))
    true, found = parts(truth), parts(predicted)
    total = 0.0
    for mask in true:
        for other in found:
            if 2 * (mask & other).sum() > mask.sum():
                total += (mask & other).sum() / (mask | other).sum()
    assert scores.seg == pytest.approx(total / len(true))


def test_seg_by_hand():
    # half of it is not more than half
    assert score_instances(label_overlaps(np.array([[1, 1, 0]]), np.array([[1, 0, 0]]))).seg == 0
    # all of it is covered, by a prediction four times as large: IoU 1/4 counts
    covered = label_overlaps(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 1, 1]]))
    assert score_instances(covered).seg == 0.25
