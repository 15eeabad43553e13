import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.inference.instances import label_instances
from unet_keras.inference.outlines import as_cells
from unet_keras.sources.synthetic import synthetic_references
from unet_keras.targets.distance import distance_map
from unet_keras.targets.labels import paint_labels, separate_touching


def perfect(labels: np.ndarray, kind: str) -> np.ndarray:
    """What a network without errors says."""
    outline = find_boundaries(labels, connectivity=1, mode="inner")
    if kind == "boundary":
        return outline[..., None].astype(np.float32)
    classes = np.where(labels > 0, 1 + outline, 0)
    return np.eye(3, dtype=np.float32)[classes]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Cells that touch each other and the image's edge."""
    sample = next(iter(synthetic_references({"train": 1}, seed=3, size=(260, 352)))).load()
    return paint_labels(sample.outlines, (260, 352))


@pytest.mark.parametrize(
    ("kind", "smallest", "lowest"),
    # Of outlines alone, gaps that cells enclose are cells too, most of them small ones.
    [("boundary", 30, 0.9), ("cells_and_borders", 0, 0.98)],
)
def test_what_a_perfect_network_says_becomes_the_cells_it_was_made_of(
    labels: np.ndarray, kind: str, smallest: int, lowest: float
) -> None:
    cells = as_cells(perfect(labels, kind), kind)  # type: ignore[arg-type]
    assert (cells.shape, cells.dtype) == ((*labels.shape, 1), np.float32)
    # Outlines of cells that touch are gaps to one kind and parts of the cells to the other.
    truth = (separate_touching(labels) if kind == "boundary" else labels) > 0
    found = cells[..., 0] >= 0.5
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.98
    instances = label_instances(cells, minimum_area=smallest, method="watershed")
    accuracy = segmentation_accuracy(labels, instances)
    assert accuracy["segmentation_accuracy"] > lowest


@pytest.mark.parametrize("kind", ["cells", "cells_and_borders"])
def test_a_perfect_distance_map_parts_cells_that_touch(labels: np.ndarray, kind: str) -> None:
    if kind == "cells":  # not parted by any line: the distance alone has to do it
        classes = (labels > 0).astype(np.float32)[..., None]
    else:
        classes = perfect(labels, kind)
    said = np.concatenate([classes, distance_map(labels)[..., None]], axis=-1)
    cells = as_cells(said, kind, 1)  # type: ignore[arg-type]
    assert (cells.shape, cells.dtype) == ((*labels.shape, 1), np.float32)
    np.testing.assert_array_equal(cells[..., 0] >= 0.5, labels > 0)
    rules = {"grow": False, "seed_smoothing": 1.0, "seed_prominence": 0.1}
    instances = label_instances(cells, method="watershed", **rules)
    assert segmentation_accuracy(labels, instances)["segmentation_accuracy"] > 0.9


def test_uncertain_outlines_keep_their_probability() -> None:
    line = np.zeros((9, 20), np.float32)
    line[1:8, 2], line[1:8, 8] = 0.9, 0.8
    line[1, 2:9], line[7, 2:9] = 0.7, 0.6
    cells = as_cells(line[..., None], "boundary")[..., 0]
    assert cells[4, 4] == 1, "inside"
    assert (cells[4, 2], cells[4, 8]) == pytest.approx((0.9, 0.8))
    assert cells[:, 10:].max() == 0, "the largest piece is the background"


def test_thresholds_below_one_half_are_those_of_the_probability_of_a_cell() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], (40, 50)).astype(np.float32)
    cells = as_cells(probabilities, "cells_and_borders")[..., 0]
    for threshold in (0.2, 0.5):
        np.testing.assert_array_equal(cells >= threshold, 1 - probabilities[..., 0] >= threshold)
    sure = cells >= 0.5
    order = np.argsort(cells[sure])
    assert (np.diff(probabilities[..., 1][sure][order]) >= 0).all()


@pytest.mark.parametrize("kind", ["cells", "cells_and_borders"])
def test_distances_below_zero_leave_cells_whole(kind: str) -> None:
    """They are learned without bounds, and are small where a cell ends."""
    classes = np.full((4, 5, 1), 0.9) if kind == "cells" else np.full((4, 5, 3), (0.1, 0.1, 0.8))
    for distance in (-0.3, 0.0, 1.4):
        said = np.concatenate([classes, np.full((4, 5, 1), distance)], axis=-1)
        cells = as_cells(said.astype(np.float32), kind, 1)
        assert cells.min() >= 0.5
        assert cells.max() <= 1


def test_cells_and_empty_images_pass() -> None:
    probabilities = np.random.default_rng(0).random((5, 6, 3), np.float32)
    assert as_cells(probabilities, "cells") is probabilities
    assert as_cells(np.zeros((5, 6, 1), np.float32), "boundary").max() == 0
    assert as_cells(np.ones((5, 6, 1), np.float32), "boundary").max() == 0
    nothing = np.eye(3, dtype=np.float32)[np.zeros((5, 6), int)]
    assert as_cells(nothing, "cells_and_borders").max() == 0
