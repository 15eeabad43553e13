"""`tfrecords/sample/` is read as it was when it was written; the format's README says the same."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.records.write_sample import SAMPLE, sample_references
from unet_keras.records.manifest import read_manifest, verify
from unet_keras.records.schema import SCHEMA_VERSION, parse_record, required_features
from unet_keras.targets.borders import border_map
from unet_keras.targets.distance import distance_map
from unet_keras.targets.labels import paint_labels, separate_touching

README = SAMPLE.parent / "README.md"
DIGESTS = {
    "0": "26ba8a2224df0ab0",
    "1": "d07ad76143ea6e73",
    "2": "541ccabe5515a86e",
    "3": "02f321be2f977ed7",
    "4": "4317e9420d379e4f",
    "5": "526d0ae4827129f2",
}


@pytest.fixture(scope="module")
def parsed():
    manifest = read_manifest(SAMPLE)
    files = [str(SAMPLE / shard.file) for shard in manifest.shards]
    dataset = tf.data.TFRecordDataset(files).map(
        lambda data: parse_record(
            data,
            maps=manifest.maps,
            channels=manifest.channels,
            image_dtype=manifest.image_dtype,
        )
    )
    records = [{name: value.numpy() for name, value in one.items()} for one in dataset]
    return {record["image_id"].decode(): record for record in records}


def test_it_is_intact_and_small():
    assert verify(SAMPLE) == []
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) < 60_000


def test_its_manifest_is_read():
    manifest = read_manifest(SAMPLE)
    assert manifest.schema_version == SCHEMA_VERSION
    assert {name: split.images for name, split in manifest.splits.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }
    assert manifest.maps == ("border", "distance")
    assert (manifest.num_classes, manifest.channels, manifest.image_dtype) == (2, 1, "uint8")
    assert manifest.largest_size == (48, 64)


def test_every_value_is_what_was_written(parsed):
    assert len(parsed) == 6
    for reference in sample_references():
        sample, record = reference.load(), parsed[reference.image_id]
        assert record["file_name"].decode() == sample.file_name
        assert record["split"].decode() == sample.split
        assert record["group"].decode() == sample.group
        assert tuple(record["outlines"]) == sample.outlines
        np.testing.assert_array_equal(record["classes"], sample.classes)
        np.testing.assert_array_equal(record["image"][..., 0], sample.image)
        labels = paint_labels(sample.outlines, sample.size)
        np.testing.assert_array_equal(record["labels"], labels)
        foreground = separate_touching(labels)
        for name, made in (("border", border_map), ("distance", distance_map)):
            np.testing.assert_allclose(record[name], made(foreground), rtol=0, atol=1e-4)


def test_nothing_of_it_changes_with_the_code(parsed):
    """The arrays themselves, whatever becomes of the functions that made them."""
    digests = {}
    for image_id in sorted(parsed):
        digest = hashlib.sha256()
        for name in ("image", "labels", "classes"):
            digest.update(parsed[image_id][name].astype(np.uint16).tobytes())
        for name in ("border", "distance"):
            digest.update(np.rint(parsed[image_id][name] * 65535).astype(np.uint16).tobytes())
        digests[image_id] = digest.hexdigest()[:16]
    assert digests == DIGESTS


def test_the_readme_describes_this_version():
    text = README.read_text(encoding="utf-8")
    assert f"Schema version {SCHEMA_VERSION}" in text
    for name in required_features(("border", "distance")):
        assert f"`{name}`" in text or name.startswith("map/"), name
    for key in vars(read_manifest(SAMPLE)):
        assert f"`{key}`" in text, key


def test_the_readme_reads_the_sample_without_this_project(monkeypatch, capsys):
    """Its snippet is run as it stands, from the folder above."""
    code = README.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(Path(SAMPLE).parents[1])
    exec(compile(code, "README.md", "exec"), {})
    assert "(48, 64, 1)" in capsys.readouterr().out
