import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from unet_keras.inference.cells import measure_cells
from unet_keras.inference.instances import InstanceRules
from unet_keras.web.answers import Answer, Question, describe, polygons


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.9))
def test_polygons_hold_exactly_the_pixels(seed, density):
    mask = np.random.default_rng(seed).random((9, 12)) < density
    painted = np.zeros((40, 50), bool)
    for outline in polygons(mask, left=20, top=10):
        corners = np.reshape(outline, (-1, 2))[:, ::-1] - 0.5
        painted |= polygon2mask(painted.shape, corners)
    # holes are filled, as the outlines are the outer ones
    outside = np.zeros((40, 50), bool)
    outside[10:19, 20:32] = mask
    filled = outside | (fill_by_flooding(outside))
    np.testing.assert_array_equal(painted, filled)


def fill_by_flooding(mask):
    from scipy.ndimage import binary_fill_holes, generate_binary_structure

    return binary_fill_holes(mask, generate_binary_structure(2, 2))


def test_straight_sides_have_no_points_between():
    (outline,) = polygons(np.ones((30, 40), bool))
    assert len(outline) == 2 * 8


def test_a_cell_is_described():
    probabilities = np.zeros((20, 30, 1), np.float32)
    probabilities[4:9, 6:16] = 0.75
    question = Question(outlines="none", rules=InstanceRules(grow_pixels=0))
    answer = Answer.of("a.png", np.zeros((20, 30, 1), np.uint8), probabilities, question)
    assert describe(answer) == {
        "name": "a.png", "height": 20, "width": 30, "count": 1, "confluency": round(50 / 600, 6),
        "threshold": 0.5, "minimum_area": 10,
        "instances": [
            {"id": 1, "area": 50, "bbox": [6, 4, 10, 5], "centroid": [11.0, 6.5], "score": 0.75}
        ],
    }  # fmt: skip


def test_places_lie_half_a_pixel_beyond_those_of_the_table():
    probabilities = np.zeros((20, 30, 1), np.float32)
    probabilities[4:9, 6:16] = 0.75
    probabilities[12:19, 20:23] = 0.75
    image = np.zeros((20, 30, 1), np.uint8)
    answer = Answer.of("a.png", image, probabilities, Question())
    measured = measure_cells(answer.labels, image)
    table = np.stack([measured["centroid_x"], measured["centroid_y"]], axis=-1)
    served = [cell["centroid"] for cell in describe(answer)["instances"]]
    np.testing.assert_allclose(served, table + 0.5)


def test_classes_are_named():
    probabilities = np.zeros((20, 30, 3), np.float32)
    probabilities[..., 0] = 1
    probabilities[2:8, 2:8] = 0.1, 0.2, 0.7
    probabilities[12:18, 2:8] = 0.1, 0.8, 0.1
    classes = ("background", "nucleus", "cell")
    answer = Answer.of("", np.zeros((20, 30, 1), np.uint8), probabilities, Question(), classes)
    assert [cell["class"] for cell in describe(answer)["instances"]] == ["cell", "nucleus"]


@pytest.mark.parametrize("outlines", ["rle", "polygons", "none"])
def test_an_image_without_cells(outlines):
    image, question = np.zeros((5, 6, 1), np.uint8), Question(outlines=outlines)
    answer = Answer.of("", image, np.zeros((5, 6, 1), np.float32), question)
    assert describe(answer)["instances"] == []
    assert describe(answer)["count"] == 0
