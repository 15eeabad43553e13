"""Kinds drawn at random: unlike each other, and cells all of them."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.records.conversion import convert
from unet_keras.sources.cell_rendering import draw_picture
from unet_keras.sources.cell_shapes import MINIMUM_AREA, grow_cells, paint
from unet_keras.sources.cell_types import CELL_TYPES, draw_type
from unet_keras.sources.synthetic import VARIED, synthetic_references

SIZE = (160, 192)


@pytest.fixture(scope="module")
def samples():
    references = synthetic_references({"train": 24}, size=SIZE, cells="varied")
    return [reference.load() for reference in references]


def test_equal_generators_draw_equal_types():
    assert draw_type(np.random.default_rng(3)) == draw_type(np.random.default_rng(3))
    assert draw_type(np.random.default_rng(3)) != draw_type(np.random.default_rng(4))


def test_every_property_is_varied_within_its_range():
    drawn = [asdict(draw_type(np.random.default_rng(seed))) for seed in range(300)]
    for name in drawn[0]:
        values = np.array([each[name] for each in drawn], float)
        assert np.isfinite(values).all(), name
        assert values.min() >= 0, name
        assert name == "least_contrast" or len(np.unique(values)) > 5, name
    for name in ("colony_fraction", "rounded", "lone"):
        assert max(each[name] for each in drawn) <= 1
    assert min(each["elongation"] for each in drawn) >= 1
    assert min(each["least_contrast"] for each in drawn) > 0


def test_images_are_those_of_a_camera_and_hold_cells(samples):
    for sample in samples:
        assert sample.group == VARIED
        assert sample.image.dtype == np.uint8
        assert sample.image.shape == SIZE
        assert abs(sample.image.mean() - 128) < 1
        codes = [{"size": list(SIZE), "counts": counts} for counts in sample.outlines]
        assert min((coco_mask.area(code) for code in codes), default=MINIMUM_AREA) >= MINIMUM_AREA
    assert sum(len(sample.outlines) > 0 for sample in samples) >= 22


def test_images_differ_far_more_than_those_of_the_typical_types(samples):
    def spread(several):
        contrasts = [sample.image.std() for sample in several]
        areas = [
            np.median([coco_mask.area({"size": list(SIZE), "counts": c}) for c in sample.outlines])
            for sample in several
            if sample.outlines
        ]
        return [max(values) / min(values) for values in (contrasts, areas)]

    typical = synthetic_references({"train": 24}, size=SIZE)
    for varied, other in zip(spread(samples), spread([r.load() for r in typical]), strict=True):
        assert varied > 1.5 * other


@pytest.mark.parametrize(
    "changes",
    [
        {"fibers": 0.0}, {"noise": 6.0}, {"dots": 9.0}, {"debris": 0.0}, {"grain": 2.0},
        {"fade": 3.0}, {"contrast": 0.7}, {"least_contrast": 2.0}, {"nucleus_pixels": 3.0},
        {"rounded_pixels": 3.0}, {"flattening_pixels": 8.0}, {"spread": 0.5}, {"arm_length": 2.6},
        {"lone": 0.06},
    ],
)  # fmt: skip
def test_every_property_shows(changes):
    pictures = []
    for kind in (replace(CELL_TYPES["Spread"], rounded=0.3), None):
        kind = kind or replace(CELL_TYPES["Spread"], rounded=0.3, **changes)
        rng = np.random.default_rng(0)
        cells = grow_cells(rng, kind, SIZE)
        pictures.append(draw_picture(rng, kind, cells, paint(cells.polygons, SIZE)))
    assert (pictures[0] != pictures[1]).mean() > 0.005


def test_dots_are_dark_and_no_cells():
    kind = replace(CELL_TYPES["Round"], colony_fraction=0.02, lone=0.0, fibers=0.0, debris=0.0)
    images = []
    for each in (kind, replace(kind, dots=8.0)):
        rng = np.random.default_rng(1)
        cells = grow_cells(rng, each, SIZE)
        images.append(draw_picture(rng, each, cells, paint(cells.polygons, SIZE)).astype(int))
    plain, dotted = images
    assert (dotted < plain - 15).sum() > 100
    assert (dotted > plain + 30).sum() == 0


def test_records_say_which_cells_they_hold_but_for_the_typical(tmp_path):
    for cells, expected in (("typical", None), ("varied", "varied")):
        overrides = [
            f"source.cells={cells}", "source.counts=[1, 1, 1]", "source.size=[64, 64]",
            f"records.path={tmp_path / cells}", "records.workers=1",
        ]  # fmt: skip
        manifest = convert(load(overrides=overrides))
        assert manifest.configuration.get("cells") == expected


def test_another_word_is_refused():
    with pytest.raises(InputError, match=r"source\.cells"):
        load(overrides=["source.cells=real"])
