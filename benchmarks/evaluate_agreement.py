"""The largest difference of every score to its reference implementation, as a Markdown table.

    python benchmarks/evaluate_agreement.py [--cases 220] [--truth DIR --predictions DIR]

Random cases are made images of 0 to 400 instances that overlap, with a prediction that moves,
loses and invents some, in odd sizes; and random segments between membranes. With a folder of label
maps (or records) and one of predictions, real ones are compared as well.
"""

import argparse
import contextlib
import io
import sys
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from environment import run_in_environment

if __name__ == "__main__":
    run_in_environment(
        "agreement", ["stardist==0.9.2", "scikit-learn==1.7.2", "faster-coco-eval==1.8.0"]
    )

import faster_coco_eval
import numpy as np
import pycocotools.mask as coco_mask
from made_instances import MadeImage, coco_scores, coco_tables, encode, made_image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import shannon_entropy
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn import metrics
from stardist.matching import matching

from unet_keras.command import import_tensorflow
from unet_keras.drawing import outlines
from unet_keras.evaluation.boundaries import TOLERANCE_PIXELS, count_boundaries
from unet_keras.evaluation.detection import average_precision, detect, instance_scores
from unet_keras.evaluation.instances import IOU_THRESHOLDS, match_matrix, score_instances
from unet_keras.evaluation.intervals import determination
from unet_keras.evaluation.membranes import compare_segments, segments_of
from unet_keras.evaluation.overlaps import label_overlaps, outline_overlaps
from unet_keras.evaluation.pixels import count_pixels

Rows = dict[tuple[str, str], list[float]]
GROUP = 2  # images that one AP is of; the next one is of the second of them and one more


def pixels(made: MadeImage, rows: Rows) -> None:
    """Compare the scores of pixels with scikit-learn's."""
    truth, probability = made.labels > 0, made.probability
    counts = count_pixels(truth, probability, threshold=0.5)
    flat, mask = truth.ravel(), (probability >= np.float32(0.5)).ravel()
    references = {
        "dice": metrics.f1_score,
        "iou": metrics.jaccard_score,
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
    }
    for name, reference in references.items():
        expected = reference(flat, mask, zero_division=1.0)
        note(rows, name, f"sklearn.{reference.__name__}", getattr(counts, name), expected)
    note(rows, "accuracy", "sklearn.accuracy_score", counts.accuracy,
         metrics.accuracy_score(flat, mask))  # fmt: skip
    note(rows, "pixel error", "sklearn.zero_one_loss", counts.pixel_error,
         metrics.zero_one_loss(flat, mask))  # fmt: skip


def instances(made: MadeImage, rows: Rows) -> None:
    """Compare the scores of instances with stardist's."""
    truth, predicted = made.labels, made.predicted
    scores = score_instances(label_overlaps(truth, predicted))
    if scores.truth + scores.predicted == 0:
        return  # stardist scores nothing against nothing 0, we 1
    levels = matching(truth, predicted, thresh=IOU_THRESHOLDS)
    ours = scores.scores()
    named = {
        "SA": (scores.segmentation_accuracy, np.mean([level.accuracy for level in levels])),
        "SA50": (ours["segmentation_accuracy_50"], levels[0].accuracy),
        "PQ": (scores.panoptic_quality, levels[0].panoptic_quality),
        "F1 of instances": (ours["instance_f1_50"], levels[0].f1),
    }
    for name, (own, expected) in named.items():
        note(rows, name, "stardist.matching", own, expected)
    if made.outlines and predicted.any():
        codes = [[{"size": list(truth.shape), "counts": counts} for counts in side]
                 for side in (made.outlines, encode(predicted))]  # fmt: skip
        iou = coco_mask.iou(codes[1], codes[0], [0] * len(codes[0])).T
        overlaps = outline_overlaps(made.outlines, predicted)
        own = np.zeros_like(iou)
        own[overlaps.truth_index, overlaps.predicted_index] = overlaps.iou
        note(rows, "IoU of outlines", "pycocotools.mask.iou", 0.0, np.abs(own - iou).max())
        seg = by_definition_seg(truth, predicted)
        note(rows, "SEG", "its definition, in loops", scores.seg, seg)


def by_definition_seg(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean IoU of true instances with the prediction that covers more than half of them."""
    iou = match_matrix(truth, predicted)
    total = 0.0
    for row, number in enumerate(np.unique(truth[truth > 0])):
        inside = predicted[truth == number]
        for column, other in enumerate(np.unique(predicted[predicted > 0])):
            if 2 * np.count_nonzero(inside == other) > inside.size:
                total += iou[row, column]
    return total / len(iou) if len(iou) else float(not predicted.any())


def boundaries(made: MadeImage, rows: Rows) -> None:
    """Compare boundary F1 with a direct reading of its definition."""
    ours = count_boundaries(made.labels, made.predicted).f1
    points = [np.argwhere(outlines(labels)) for labels in (made.labels, made.predicted)]
    if not all(map(len, points)):
        return
    found, right = (
        np.mean(cKDTree(b).query(a)[0] <= TOLERANCE_PIXELS) for a, b in (points, points[::-1])
    )
    expected = 2 * found * right / (found + right) if found + right else 0.0
    note(rows, "boundary F1", "scipy cKDTree distances", ours, expected)


def precision(group: Collection[MadeImage], rows: Rows) -> None:
    """Compare average precision with pycocotools and faster-coco-eval."""
    detections, table = [], []
    for made in group:
        overlaps = outline_overlaps(made.outlines, made.predicted)
        scores = instance_scores(made.probability, overlaps, made.predicted)
        detections.append(detect(overlaps, scores))
        table.append((made.labels.shape, made.outlines, encode(made.predicted), scores))
    ours = average_precision(detections)
    truth, results = coco_tables(table)
    if not results:
        return
    for name, expected in both_coco(truth, results).items():
        for score, value in expected.items():
            if value is not None:
                title = "AP" if score.startswith("ap") else "AR"
                note(rows, f"{title}, all areas and limits", name, ours[score], value)
            elif ours[score] is not None:
                raise ValueError(f"{score} is {ours[score]}, {name} has none")
    true, predicted = ([len(np.unique(getattr(made, side))) for made in group]
                       for side in ("labels", "predicted"))  # fmt: skip
    own = determination(true, predicted)
    if own is not None:
        note(rows, "count R²", "sklearn.r2_score", own, metrics.r2_score(true, predicted))


def both_coco(truth: dict, results: list) -> dict[str, dict[str, float | None]]:
    """Average precision by both packages."""
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        slow = COCOeval(gold, gold.loadRes([dict(result) for result in results]), "segm")
        gold = faster_coco_eval.COCO(truth)
        loaded = gold.loadRes([dict(result) for result in results])
        fast = faster_coco_eval.COCOeval_faster(gold, loaded, "segm")
    return {"pycocotools": coco_scores(slow), "faster-coco-eval": coco_scores(fast)}


def membranes(truth: np.ndarray, predicted: np.ndarray, rows: Rows) -> None:
    """Compare Rand and information scores with scikit-image's."""
    agreement = compare_segments(truth, predicted)
    alone = (predicted == 0) & (truth > 0)
    numbered = predicted.astype(np.int64)
    numbered[alone] = predicted.max() + 1 + np.arange(np.count_nonzero(alone))
    pixels = np.count_nonzero(truth)
    if not pixels or (agreement.truth < 2).all():
        return
    error = adapted_rand_error(truth, numbered)[0]
    # scikit-image leaves out the pairs of a pixel with itself, one a pixel in every sum
    together = (agreement.joint**2).sum() + agreement.alone - pixels
    either = (agreement.truth**2).sum() + (agreement.predicted**2).sum() + agreement.alone
    own = 1 - 2 * together / (either - 2 * pixels)
    note(rows, "Rand error, without self-pairs", "skimage.adapted_rand_error", own, error)
    note(rows, "Rand error, as reported", "skimage.adapted_rand_error", 1 - agreement.rand, error)
    lost = variation_of_information(truth, numbered, ignore_labels=(0,)).sum()
    entropy = shannon_entropy(truth[truth > 0]) + shannon_entropy(numbered[truth > 0])
    if entropy:
        expected = (entropy - lost) / entropy
        note(rows, "V_info", "skimage.variation_of_information", agreement.information, expected)


def note(rows: Rows, score: str, reference: str, own: Any, expected: Any) -> None:
    """Keep the difference of a score from its reference."""
    rows.setdefault((score, reference), []).append(abs(float(own) - float(expected)))


def made_cases(count: int) -> Iterator[MadeImage]:
    """Random label maps, true and predicted, integer (H, W)."""
    random = np.random.default_rng(0)
    for seed in range(count):
        shape = tuple(int(side) for side in random.integers(60, 260, 2))
        yield made_image(int(random.integers(0, 400)) * int(seed % 20 > 0), seed, shape)


def membrane_cases(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random segments between membranes, integer (H, W)."""
    random = np.random.default_rng(1)
    for _ in range(count):
        size = (2, *(int(side) for side in random.integers(40, 200, 2)))
        noise = ndimage.gaussian_filter(random.normal(size=size), (0, 3, 3))
        noise /= noise.std()
        disturbed = noise[0] + random.uniform(0, 0.8) * noise[1]
        yield (
            segments_of(np.abs(noise[0]) > 0.3),
            segments_of(np.abs(disturbed) > random.uniform(0.1, 0.5)),
        )


def real_cases(truth: Path, predictions: Path) -> Iterator[MadeImage]:
    """Label maps of a folder or of records, with the predictions of the same names."""
    from unet_keras.evaluation.masks import MaskFolder, folder_truth

    folder = MaskFolder(predictions)
    if (truth / "manifest.json").exists():
        import_tensorflow()
        from unet_keras.evaluation.scoring import manifest_with, read_records

        cases = read_records(truth, manifest_with(truth, "test"), "test")
    else:
        cases = folder_truth(MaskFolder(truth), group_pattern="(.*)")
    for case in cases:
        labels, name = case["labels"], case["file_name"]
        predicted = folder.labels(name, labels.shape)
        probability = folder.probability(name, labels.shape)
        if probability is None:
            probability = (predicted > 0).astype(np.float32)
        truths = case["outlines"] or tuple(encode(labels))
        yield MadeImage(case["image"], truths, labels, predicted, probability)


def compare(images: Iterator[MadeImage], rows: Rows) -> None:
    """Compare all scores of some images."""
    group: deque[MadeImage] = deque(maxlen=GROUP)
    for made in images:
        pixels(made, rows)
        instances(made, rows)
        boundaries(made, rows)
        membranes(made.labels, made.predicted, rows)
        group.append(made)
        precision(group, rows)


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    lines = ["| score | reference | comparisons | largest difference |", "|---|---|---:|---:|"]
    for (score, reference), differences in rows.items():
        lines.append(f"| {score} | {reference} | {len(differences)} | {max(differences):.1e} |")
    return "\n".join(lines)


def main() -> int:
    """Compare made or given images and print the table."""
    parser = argparse.ArgumentParser(description="Differences of scores to their references.")
    parser.add_argument("--cases", type=int, default=220)
    parser.add_argument("--truth", type=Path, help="records, or a folder of label maps")
    parser.add_argument("--predictions", type=Path, help="a folder of label maps")
    arguments = parser.parse_args()
    rows: Rows = {}
    if arguments.truth and arguments.predictions:
        compare(real_cases(arguments.truth, arguments.predictions), rows)
    else:
        compare(made_cases(arguments.cases), rows)
        for truth, predicted in membrane_cases(arguments.cases):
            membranes(truth, predicted, rows)
    print(table(rows))
    worst = max(max(d) for (score, _), d in rows.items() if score != "Rand error, as reported")
    print(f"\nlargest of all but the Rand error as reported, which counts self-pairs: {worst:.1e}")
    return int(worst > 1e-6)  # stardist sums in float32


if __name__ == "__main__":
    sys.exit(main())
