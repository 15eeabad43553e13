"""What is made of a sample."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings, build_record, sample_digest
from unet_keras.sources.base import Sample
from unet_keras.targets.borders import border_map
from unet_keras.targets.distance import distance_map
from unet_keras.targets.labels import separate_touching


def sample(*masks, **named):
    outlines = tuple(
        coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks
    )
    values = {
        "image_id": "5",
        "file_name": "a.png",
        "split": "val",
        "group": "A",
        "image": np.arange(20 * 30, dtype=np.uint16).reshape(20, 30),
        "classes": np.arange(1, len(masks) + 1, dtype=np.uint8),
    }
    return Sample(outlines=outlines, **{**values, **named})


@pytest.fixture
def touching():
    left, right = np.zeros((2, 20, 30), bool)
    left[4:12, 3:10] = True
    right[4:12, 10:20] = True
    return sample(left, right)


def test_numbers_follow_the_outlines(touching):
    record, _ = build_record(touching, TargetSettings())
    assert record.labels[5, 5] == 1
    assert record.labels[5, 15] == 2
    assert record.outlines == touching.outlines
    assert (record.image_id, record.file_name, record.group, record.split) == (
        "5",
        "a.png",
        "A",
        "val",
    )


@pytest.mark.parametrize("separate", [True, False])
def test_maps_come_from_the_foreground(touching, separate):
    settings = TargetSettings(maps=("distance", "border"), sigma_pixels=3.0, separate=separate)
    record, foreground = build_record(touching, settings)
    expected = separate_touching(record.labels) if separate else record.labels
    np.testing.assert_array_equal(foreground, expected)
    np.testing.assert_array_equal(record.maps["border"], border_map(expected, sigma_pixels=3.0))
    np.testing.assert_array_equal(record.maps["distance"], distance_map(expected))
    across_the_seam = record.maps["border"][8]
    assert (across_the_seam.max() > 0.5) == separate  # unseparated, there is no gap to weigh


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_grey_values_that_are_no_numbers_are_refused(value):
    image = np.zeros((20, 30), np.float32)
    build_record(sample(image=image), TargetSettings())
    image[3, 4] = value
    with pytest.raises(InputError, match=r"Image 5 \(a\.png\) has pixels that are NaN or infinite"):
        build_record(sample(image=image), TargetSettings())


def test_the_overlap_rule_is_passed_on():
    large, small = np.zeros((2, 20, 30), bool)
    large[2:18, 2:28] = True
    small[8:12, 8:12] = True
    owners = {
        rule: int(build_record(sample(large, small), TargetSettings(overlap=rule))[0].labels[9, 9])
        for rule in ("smallest", "largest", "first", "last")
    }
    assert owners == {"smallest": 2, "largest": 1, "first": 1, "last": 2}


def test_the_digest_changes_with_whatever_was_read(touching):
    digest = sample_digest(touching)
    image = touching.image.copy()
    image[3, 4] += 1
    changed = [
        sample(np.ones((20, 30))),
        Sample(**{**vars(touching), "image": image}),
        Sample(**{**vars(touching), "image": touching.image.reshape(30, 20)}),
        Sample(**{**vars(touching), "image": touching.image.view(np.int16).astype(np.uint8)}),
        Sample(**{**vars(touching), "classes": np.array([2, 2], np.uint8)}),
        Sample(**{**vars(touching), "outlines": touching.outlines[::-1]}),
    ]
    assert len({digest, *map(sample_digest, changed)}) == 1 + len(changed)
    assert sample_digest(Sample(**vars(touching))) == digest


def test_wrong_settings_are_refused():
    for named, message in (
        ({"maps": ("border", "edges")}, "records.maps=.*'edges'.*border, distance"),
        ({"maps": ("border", "border")}, "records.maps=.* once"),
        ({"overlap": "biggest"}, "targets.overlap='biggest' must be one of"),
        ({"sigma_pixels": 0.0}, "targets.sigma_pixels=0.0 must be above 0"),
    ):
        with pytest.raises(InputError, match=message):
            TargetSettings(**named)


@pytest.mark.slow
def test_other_processes_load_what_warming_up_compiled(tmp_path):
    """With an empty cache: the first process compiles, the second only loads."""
    code = """
import sys
from tests.records.examples import drawn
from unet_keras.records.build import TargetSettings, build_record, warm_up
from unet_keras.records.statistics import Statistics
from unet_keras.targets import borders, distance, labels, outlines
settings = TargetSettings(maps=("border", "distance"))
warm_up(settings) if sys.argv[1] == "warm" else Statistics.of(
    *build_record(drawn({"train": 1})[0].load(), settings)
)
functions = {
    f for room in (borders, distance, labels, outlines) for f in vars(room).values()
    if hasattr(f, "stats")
}
print(sum(sum(f.stats.cache_misses.values()) for f in functions))
print(sum(sum(f.stats.cache_hits.values()) for f in functions))
"""
    counts = []
    for step in ("warm", "use"):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, step],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stderr == ""
        counts.append([int(text) for text in result.stdout.split()])
    (compiled, _), (compiled_again, loaded) = counts
    assert compiled > 0
    assert compiled_again == 0
    assert loaded > 0
