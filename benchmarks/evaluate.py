"""Evaluation of many instances an image, against COCOeval of pycocotools and faster-coco-eval.

    python benchmarks/evaluate.py

All sides get the same made instances in one run and must agree. Processor time of one process is
compared. The whole evaluation is everything `unet_keras.evaluate` does with an image but for
predicting it: pixels, matches, boundaries, AP, the truth scored as a prediction. AP alone is what
COCOeval does too; the others start from ready run-length codes, ours from the predicted label map.
"""

import contextlib
import io
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from environment import run_in_environment

if __name__ == "__main__":
    try:
        run_in_environment("evaluate", ["faster-coco-eval==1.8.0"])
    except subprocess.CalledProcessError:
        print("faster-coco-eval could not be installed; going on without it", file=sys.stderr)

import numpy as np
from made_instances import MadeImage, coco_scores, coco_tables, encode, made_image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from unet_keras.evaluation.detection import average_precision, detect, instance_scores
from unet_keras.evaluation.overlaps import outline_overlaps
from unet_keras.evaluation.summary import Evaluation
from unet_keras.targets.labels import separate_touching

LIVECELL_TEST_IMAGES = 1512
GOAL_SECONDS = 600
# instances an image: images of the whole evaluation, and of the comparison
SIZES = {336: (24, 3), 3000: (6, 1)}


def evaluate_all(images: Sequence[MadeImage]) -> tuple[float, float, dict[str, Any]]:
    """The whole evaluation: processor seconds an image, and at the end of the test split."""
    # the best and worst images are drawn too, some forty of 1,512 but most of the first two dozen
    evaluation = Evaluation(examples=0)
    seconds = []
    for number, made in enumerate(images):
        start = time.process_time()
        evaluation.add(
            f"{number}.tif",
            "made",
            made.image,
            made.labels,
            made.outlines,
            made.probability,
            made.predicted,
            foreground=separate_touching(made.labels) > 0,
        )
        seconds.append(time.process_time() - start)
    results = evaluation.results()
    # what is known of the images, repeated to the length of the split
    repeats = -(-LIVECELL_TEST_IMAGES // len(images))
    evaluation._measured = (evaluation._measured * repeats)[:LIVECELL_TEST_IMAGES]
    end, _ = timed(evaluation.results)
    return statistics.median(seconds), end, results


def our_precision(images: Sequence[MadeImage]) -> dict[str, float | None]:
    """AP and AR, from outlines and label maps."""
    detections = []
    for made in images:
        overlaps = outline_overlaps(made.outlines, made.predicted)
        scores = instance_scores(made.probability, overlaps, made.predicted)
        detections.append(detect(overlaps, scores))
    return average_precision(detections)


def tables_of(images: Sequence[MadeImage]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same for COCO."""
    rows = []
    for made in images:
        overlaps = outline_overlaps(made.outlines, made.predicted)
        scores = instance_scores(made.probability, overlaps, made.predicted)
        rows.append((made.labels.shape, made.outlines, encode(made.predicted), scores))
    return coco_tables(rows)


def pycocotools_precision(truth: dict, results: list) -> dict[str, float | None]:
    """Average precision by pycocotools, the reference."""
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        evaluator = COCOeval(gold, gold.loadRes(results), "segm")
    return coco_scores(evaluator)


def faster_precision(truth: dict, results: list) -> dict[str, float | None]:
    """The same by faster-coco-eval."""
    import faster_coco_eval

    with contextlib.redirect_stdout(io.StringIO()):
        gold = faster_coco_eval.COCO(truth)
        evaluator = faster_coco_eval.COCOeval_faster(gold, gold.loadRes(results), "segm")
    return coco_scores(evaluator)


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """The processor's seconds of a call, and its result."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def largest_difference(first: dict, second: dict) -> float:
    """The largest difference between figures of one name."""
    assert first.keys() >= second.keys()
    return max(
        0.0 if first[name] is second[name] is None else abs(first[name] - second[name])
        for name in second
    )


def compare(count: int, images: Sequence[MadeImage]) -> dict[str, float]:
    """Seconds an image of AP alone, by side; every side must agree with pycocotools."""
    our_precision(images)  # compiled and warm
    seconds, ours = timed(our_precision, images)
    times = {"unet_keras": seconds / len(images)}
    truth, results = tables_of(images)
    sides = {"pycocotools": pycocotools_precision}
    with contextlib.suppress(ImportError):
        import faster_coco_eval  # noqa: F401

        sides["faster-coco-eval"] = faster_precision
    for name, side in sides.items():
        # loadRes writes into what it is given
        seconds, theirs = timed(side, truth, [dict(result) for result in results])
        times[name] = seconds / len(images)
        difference = largest_difference(ours, theirs)
        print(f"{count} instances: largest difference to {name} {difference:.1e}", flush=True)
        if difference > 1e-9:
            print(f"error: {name} does not agree", file=sys.stderr)
            sys.exit(1)
    return times


def main() -> int:
    """Time all sides on the same instances and print table and ratios."""
    evaluate_all([made_image(50, 0)])  # compiled and warm
    whole, ends, alone = {}, {}, {}
    for count, (many, few) in SIZES.items():
        images = [made_image(count, seed) for seed in range(many)]
        whole[count], ends[count], results = evaluate_all(images)
        overall = results["overall"]
        print(
            f"{count} instances: {overall['truth_instances'] / many:.0f} true an image, "
            f"SA {overall['segmentation_accuracy']:.3f}, AP {overall['ap']:.3f}",
            flush=True,
        )
        alone[count] = compare(count, images[:few])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nprocessor seconds an image of 520x704, one process; peak memory {memory:.0f} MB")
    sides = list(alone[336])
    print(f"{'instances':>9}{'everything':>12}" + "".join(f"{f'AP {s}':>20}" for s in sides))
    for count in SIZES:
        cells = "".join(f"{alone[count][side]:20.4f}" for side in sides)
        print(f"{count:>9}{whole[count]:12.4f}{cells}")
    total = {count: whole[count] * LIVECELL_TEST_IMAGES + ends[count] for count in SIZES}
    for count in SIZES:
        print(
            f"{LIVECELL_TEST_IMAGES} images of {count} instances: {total[count] / 60:.1f} minutes, "
            f"{ends[count]:.0f} seconds of them for curves, AP and intervals of all images"
        )
    for count in SIZES:
        ours = alone[count]["unet_keras"]
        for side in sides[1:]:
            name = "cocoeval" if side == "pycocotools" else "faster"
            print(f"ratio precision_vs_{name}_{count} {alone[count][side] / ours:.4g}")
        print(f"ratio evaluate_10_minutes_{count} {GOAL_SECONDS / total[count]:.4g}")
    return 0


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
