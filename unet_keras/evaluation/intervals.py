"""How sure a score is: bootstrap over images, for one run and for the difference of two.

Images are drawn with replacement; a score of all pixels is the ratio of resampled sums, a score of
instances the mean of the resampled images (Efron and Tibshirani 1993, percentile intervals). One
fixed seed: the same images give the same interval.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from unet_keras.errors import InputError

RESAMPLES = 2000
# Two counts always lie on a line, and R² of them is any number.
FEWEST_COUNTS = 3
_BLOCK = 64


def resamples(images: int, count: int = RESAMPLES, *, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each image is drawn in each resample.

    In blocks, because all draws of thousands of images at once would take tens of megabytes.

    Args:
        images: Number of images, at least 1.
        count: Number of resamples.
        seed: Equal seeds draw the same images, which pairs two runs.

    Yields:
        int64 (block, images), `count` rows in all; every row sums to `images`.
    """
    random, shares = np.random.default_rng(seed), np.full(images, 1 / images)
    for start in range(0, count, _BLOCK):
        yield random.multinomial(images, shares, size=min(_BLOCK, count - start))


def resample_sums(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Sums over the images of each resample.

    Args:
        values: floating (n, k), k numbers an image.
        seed: Of the draws.

    Returns:
        float64 (RESAMPLES, k).
    """
    columns = np.asarray(values, np.float64)
    return np.concatenate([times @ columns for times in resamples(len(columns), seed=seed)])


def interval(samples: np.ndarray, *, confidence: float = 0.95) -> list[float]:
    """The middle share of samples.

    Args:
        samples: floating (n,).
        confidence: The share, in (0, 1).

    Returns:
        Lower and upper end.
    """
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [float(low), float(high)]


def score_intervals(
    pixel_counts: np.ndarray, image_scores: Mapping[str, Sequence[float]], *, seed: int = 0
) -> dict[str, list[float]]:
    """95% intervals of the overall scores.

    Args:
        pixel_counts: int (n, 3), true positive, false positive, false negative of each image.
        image_scores: Scores that are averaged over images, n values each.
        seed: Of the draws.

    Returns:
        [low, high] of `dice`, `iou` and each of `image_scores`; empty below two images.
    """
    images = len(pixel_counts)
    if images < 2:
        return {}
    columns = np.column_stack([pixel_counts, *image_scores.values()])
    sums = resample_sums(columns, seed=seed)
    hits, wrong = sums[:, 0], sums[:, 1] + sums[:, 2]
    result = {"dice": interval(_ratio(2 * hits, 2 * hits + wrong))}
    result["iou"] = interval(_ratio(hits, hits + wrong))
    for column, name in enumerate(image_scores, start=3):
        result[name] = interval(sums[:, column] / images)
    return result


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotients, 1.0 for 0/0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 1.0)


def compare(first: Mapping, second: Mapping, *, seed: int = 0) -> dict[str, dict]:
    """The paired difference of two evaluations of the same images.

    Args:
        first: `metrics.json` of one run, read.
        second: Of the other.
        seed: Of the draws.

    Returns:
        For each score that every image has, the mean over images of both (`first`, `second`), their
        `difference` (second - first), its 95% `interval`, [low, high], and `better`, the share in
        [0, 1] of the resamples in which the second is ahead, ties counted half.

    Raises:
        InputError: The runs were evaluated on different images, or images of another truth.
    """
    one, two = ({image["file_name"]: image for image in run["images"]} for run in (first, second))
    if one.keys() != two.keys() or not one:
        odd = sorted(one.keys() ^ two.keys())
        raise InputError(
            f"The runs were evaluated on different images ({len(one)} and {len(two)}"
            f"{', for example ' + odd[0] if odd else ''}); evaluate both on the same split."
        )
    for name in sorted(one):
        _demand_same_truth(name, one[name], two[name])
    result = {}
    for score in _common_scores([*one.values(), *two.values()]):
        pairs = np.array([[one[name][score], two[name][score]] for name in sorted(one)])
        difference = pairs[:, 1] - pairs[:, 0]
        samples = resample_sums(difference[:, np.newaxis], seed=seed)[:, 0] / len(pairs)
        result[score] = {
            "first": float(pairs[:, 0].mean()),
            "second": float(pairs[:, 1].mean()),
            "difference": float(difference.mean()),
            "interval": interval(samples),
            "better": float(np.mean(samples > 0) + np.mean(samples == 0) / 2),
        }
    return result


def _demand_same_truth(name: str, first: Mapping, second: Mapping) -> None:
    """Files of one name may be others, or have been annotated again since."""
    for key, what in (("truth_instances", "true instances"), ("truth_digest", "digest of them")):
        found = [row.get(key) for row in (first, second)]  # absent from those of older versions
        if None not in found and found[0] != found[1]:
            raise InputError(
                f"The runs were evaluated on different images that are both called {name} "
                f"({what}: {found[0]} and {found[1]}); evaluate both on the same records."
            )


def _common_scores(images: Sequence[Mapping]) -> list[str]:
    """Names under which every image has a floating score."""
    return [
        name for name in images[0]
        if not name.startswith("ceiling")
        and all(isinstance(image.get(name), float) for image in images)
    ]  # fmt: skip


def determination(truth: Sequence[float], predicted: Sequence[float]) -> float | None:
    """Coefficient of determination R² of predicted against true counts.

    Args:
        truth: True counts, one an image, at least 0.
        predicted: Predicted counts, likewise.

    Returns:
        1 - sum of squared errors / sum of squares around the true mean, in (-inf, 1]; None where
        the true counts do not vary, or are fewer than `FEWEST_COUNTS`.
    """
    true = np.asarray(truth, np.float64)
    spread = np.sum((true - true.mean()) ** 2) if true.size >= FEWEST_COUNTS else 0.0
    if not spread:
        return None
    return float(1 - np.sum((true - np.asarray(predicted)) ** 2) / spread)
