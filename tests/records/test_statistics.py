"""What is counted is what is there, and parts add up to the whole."""

import json

import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from tests.records.examples import drawn
from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings, build_record
from unet_keras.records.statistics import GreyValues, Statistics
from unet_keras.targets.labels import outline_pixels


def count(reference, **named):
    record, foreground = build_record(reference.load(), TargetSettings(**named))
    return record, foreground, Statistics.of(record, foreground)


def test_grey_values_merge_without_cancellation(rng):
    images = [
        (1e6 + rng.normal(size=shape)).astype(np.float32) for shape in ((3, 5), (40, 2), (9, 9, 3))
    ]
    merged = GreyValues()
    for image in images:
        merged.add(GreyValues.of(image))
    values = np.concatenate([image.ravel() for image in images]).astype(np.float64)
    assert merged.count == values.size
    assert merged.mean == pytest.approx(values.mean(), rel=1e-12)
    assert merged.squares / merged.count == pytest.approx(values.var(), rel=1e-9)


def test_grey_values_of_nothing():
    merged = GreyValues()
    merged.add(GreyValues())
    assert merged == GreyValues()


def test_one_image_is_counted(rng):
    record, foreground, counted = count(drawn({"train": 1}, classes=3)[0])
    instances = len(record.outlines)
    assert (counted.images, counted.instances, counted.most_instances) == (1, instances, instances)
    assert counted.groups == {"A": [1, instances, int((record.labels > 0).sum())]}
    assert counted.sizes == [40, 56, 40, 56]
    assert counted.pixels == 40 * 56
    assert counted.kinds == {"uint8 x 1": "A_0.png"}
    classes = np.concatenate([[0], record.classes])[foreground]
    for index in range(4):
        assert counted.class_pixels.get(str(index), 0) == (classes == index).sum()


def test_ranges_are_those_of_the_images_and_their_cells():
    total, seen = Statistics(), []
    for reference in drawn({"train": 3}):
        record, _, counted = count(reference)
        areas = np.bincount(record.labels.ravel())[1:]
        seen.append((record.image.mean(), record.image.std(), np.median(areas[areas > 0])))
        total.add(counted)
    expected = list(zip(np.min(seen, axis=0), np.max(seen, axis=0), strict=True))
    for name, bounds in zip(("grey_mean", "grey_deviation", "cell_area"), expected, strict=True):
        assert total.ranges[name] == pytest.approx(bounds)
        assert bounds[0] < bounds[1]


def test_overlaps_are_counted_and_vanished_instances_named():
    covering = drawn({"train": 1})[0].load()
    outlines = (covering.outlines[0], *covering.outlines)  # the first one twice
    twice = type(covering)(
        **{
            **vars(covering),
            "outlines": outlines,
            "classes": np.ones(len(outlines), np.uint8),
        }
    )
    record, foreground = build_record(twice, TargetSettings(overlap="last"))
    counted = Statistics.of(record, foreground, without_pixels=4)
    assert counted.vanished["0"][0] == 1
    assert 2 not in counted.vanished["0"] or counted.cut_instances > 2
    assert counted.shared_pixels > 0
    assert counted.cut_instances >= 1
    assert counted.without_pixels == 4


def test_outline_pixels_are_those_of_scikit_image():
    record, _, counted = count(drawn({"train": 1})[0])
    inner = find_boundaries(record.labels, connectivity=1, mode="inner")
    assert counted.outline_pixels == inner.sum() > 0
    np.testing.assert_array_equal(outline_pixels(record.labels), inner)


def test_touching_instances_are_counted():
    record, foreground, counted = count(drawn({"train": 1})[0])
    lost = {int(n) for n in np.unique(record.labels[record.labels != foreground])}
    assert counted.touching_instances == len(lost)
    assert count(drawn({"train": 1})[0], separate=False)[2].touching_instances == 0


def test_parts_add_up_whatever_their_number():
    single = [count(reference)[2] for reference in drawn({"train": 6})]

    def merge(sizes):
        total, rest = Statistics(), iter(single)
        for size in sizes:
            part = Statistics()
            for _ in range(size):
                part.add(next(rest))
            # Through JSON, as parts of an earlier run come back.
            total.add(Statistics.from_json(json.loads(json.dumps(part.to_json()))))
        return total

    whole = merge([6])
    assert whole.images == 6
    assert len(whole.sources) == 6
    assert whole.groups["A"][0] == whole.groups["B"][0] == 3
    for sizes in ([1] * 6, [2, 3, 1], [0, 6]):
        other = merge(sizes)
        assert other.grey.mean == pytest.approx(whole.grey.mean, rel=1e-12)
        other.grey = whole.grey
        assert other == whole
    assert merge([2, 4]) == merge([2, 4])


def test_images_of_different_kinds_are_refused():
    total = count(drawn({"train": 1})[0])[2]
    for named in ({"dtype": "uint16"}, {"channels": 3}):
        with pytest.raises(InputError, match=r"A_0.png is uint8 x 1.*|uint8 x 3"):
            total.add(count(drawn({"train": 1}, **named)[0])[2])
