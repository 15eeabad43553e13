"""What is stated of each image, against the evaluation's own scores."""

import numpy as np
import pytest
from scipy import ndimage

from tests.records.examples import drawn
from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.records import figures
from unet_keras.records.build import TargetSettings, build_record
from unet_keras.records.figures import ImageFigures, Owners, component_accuracy
from unet_keras.targets.labels import separate_touching, touching_share


def expected(labels, foreground):
    components, _ = ndimage.label(foreground > 0)
    return segmentation_accuracy(labels, components)["segmentation_accuracy"]


def accuracy(labels, foreground):
    return component_accuracy(foreground, Owners.of(labels, int(labels.max())))


def crowd(rng, count, size=(60, 70)):
    """Touching cells with gaps in their numbers: each pixel goes to the nearest of some points."""
    points = rng.uniform(0, size, (count, 2))
    y, x = np.indices(size)
    distances = np.hypot(y - points[:, :1, None], x - points[:, 1:, None])
    labels = distances.argmin(axis=0) * 2 + 1
    return np.where(distances.min(axis=0) < rng.uniform(3, 9), labels, 0).astype(np.uint16)


@pytest.mark.parametrize("table_cells", [0, 4_000_000])
def test_components_score_as_the_evaluation_scores_them(table_cells, rng, monkeypatch):
    monkeypatch.setattr(figures, "_TABLE_CELLS", table_cells)
    scores = []
    for count in (0, 1, 3, 10, 40, 40, 40):
        labels = crowd(rng, count) if count else np.zeros((8, 9), np.uint16)
        for foreground in (labels, separate_touching(labels)):
            scores.append(accuracy(labels, foreground))
            assert scores[-1] == pytest.approx(expected(labels, foreground), abs=1e-12)
    assert scores[:2] == [1, 1]
    assert any(0 < score < 0.9 for score in scores)


def test_of_two_equal_halves_one_counts():
    halves, whole = np.zeros((2, 5, 9), np.uint16)
    halves[1:3, 1:3], halves[1:3, 3:5] = 1, 2  # two instances, one component
    whole[1:3, 1:8] = 1
    cut = np.where(np.arange(9) == 4, 0, whole)  # one instance, two components
    cut[1:3, 1], cut[1:3, 7] = 1, 1
    for labels, foreground in ((halves, halves), (whole, cut), (halves, halves * 0)):
        assert accuracy(labels, foreground) == pytest.approx(
            expected(labels, foreground), abs=1e-12
        )
    assert 0 < accuracy(halves, halves) < 0.1


def test_small_random_maps_with_every_kind_of_tie(rng):
    for _ in range(300):
        labels = rng.integers(0, 4, (3, 5)).astype(np.uint16)
        foreground = np.where(rng.random((3, 5)) < 0.7, labels, 0)
        assert accuracy(labels, foreground) == pytest.approx(
            expected(labels, foreground), abs=1e-12
        )


@pytest.mark.parametrize("separate", [True, False])
def test_an_image_in_figures(separate):
    record, _ = build_record(drawn({"val": 1})[0].load(), TargetSettings(separate=separate))
    separated = separate_touching(record.labels)
    owners = Owners.of(record.labels, len(record.outlines))
    counted = ImageFigures.of(record, separated, owners)
    assert (counted.image_id, counted.file_name) == ("0", "A_0.png")
    assert (counted.split, counted.group) == ("val", "A")
    assert (counted.height, counted.width) == record.labels.shape == (40, 56)
    assert counted.instances == len(record.outlines)
    assert counted.labeled_pixels == np.count_nonzero(record.labels)
    present = len(np.unique(record.labels)) - 1
    assert counted.touching_instances / present == pytest.approx(touching_share(record.labels))
    assert counted.accuracy_connected == expected(record.labels, record.labels)
    assert counted.accuracy_separated == expected(record.labels, separated)


def test_copies_under_other_names_have_one_digest():
    first, second, other = drawn({"train": 3})
    copy = type(second)(**{**vars(second), "seed": first.seed})
    digests = []
    for reference in (first, copy, other):
        record, foreground = build_record(reference.load(), TargetSettings())
        owners = Owners.of(record.labels, len(record.outlines))
        digests.append(ImageFigures.of(record, foreground, owners).pixels_digest)
    assert digests[0] == digests[1] != digests[2]
