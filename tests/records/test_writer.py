"""The same bytes whatever the number of workers, and nothing lost whatever happens."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from tests.records.examples import drawn
from unet_keras.errors import InputError
from unet_keras.records.manifest import MANIFEST_NAME, verify
from unet_keras.records.parts import UnfinishedError
from unet_keras.records.schema import parse_record
from unet_keras.records.workers import worker_count
from unet_keras.records.writer import write_records

COUNTS = {"train": 21, "val": 2, "test": 3}


def content(path):
    """Everything below a folder, with its bytes."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


def loads(journal):
    return journal.read_text().split() if journal.exists() else []


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "records"
    manifest = write_records(drawn(COUNTS), path, workers=1, shard_images=12)
    return manifest, content(path)


def test_shards_are_balanced_and_in_order(expected, tmp_path):
    manifest, files = expected
    assert sorted(files) == [
        ".conversion.json",
        "manifest.json",
        "test-00000-of-00001.tfrecord",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
        "val-00000-of-00001.tfrecord",
    ]
    assert [shard.images for shard in manifest.splits["train"].shards] == [10, 11]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = [str(tmp_path / shard.file) for shard in manifest.splits["train"].shards]
    records = [parse_record(data) for data in tf.data.TFRecordDataset(names)]
    assert [record["image_id"].numpy().decode() for record in records] == [
        str(k) for k in range(21)
    ]


def test_two_workers_write_the_same_bytes(expected, tmp_path):
    done = []
    manifest = write_records(
        drawn(COUNTS), tmp_path / "records", workers=2, shard_images=12, progress=done.append
    )
    assert manifest == expected[0]
    assert content(tmp_path / "records") == expected[1]
    assert sum(done) == 26


def test_records_that_are_there_are_left(tmp_path, caplog):
    journal, path = tmp_path / "journal", tmp_path / "records"
    references = drawn({"train": 3}, journal=str(journal))
    first = write_records(references, path, workers=1, configuration={"source": ("a", 1)})
    before = content(path)
    assert len(loads(journal)) == 3
    with caplog.at_level("INFO"):
        again = write_records(references, path, workers=2, configuration={"source": ("a", 1)})
    assert "holds these records already" in caplog.text
    assert again == first
    assert content(path) == before
    assert len(loads(journal)) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"sigma_pixels": 4.0},
        {"maps": ("border", "distance")},
        {"separate": False},
        {"overlap": "first"},
        {"shard_images": 1},
        {"num_classes": 2},
        {"configuration": {"a": 2}},
    ],
)
def test_other_settings_convert_anew(changed, tmp_path):
    path = tmp_path / "records"
    write_records(drawn({"train": 2}), path, workers=1)
    before = content(path)
    write_records(drawn({"train": 2}), path, workers=1, **changed)
    assert content(path) != before
    assert verify(path) == []
    write_records(drawn({"train": 2}), path, workers=1)
    assert content(path) == before


@pytest.mark.parametrize("damage", ["cut off", "a bit flipped"])
def test_damaged_records_are_converted_anew(damage, tmp_path):
    path = tmp_path / "records"
    write_records(drawn({"train": 2}), path, workers=1)
    before = content(path)
    shard = path / "train-00000-of-00001.tfrecord"
    damaged = bytearray(shard.read_bytes())
    damaged[300] ^= 1
    shard.write_bytes(damaged if damage == "a bit flipped" else damaged[:-1])
    write_records(drawn({"train": 2}), path, workers=1)
    assert content(path) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_conversion_leaves_what_was_there(workers, tmp_path):
    path = tmp_path / "records"
    write_records(drawn({"train": 2}), path, workers=1)
    (path / "notes.txt").write_text("mine")
    before = content(path)
    references = [*drawn({"train": 19}), *drawn({"val": 1}, first=19, trouble="damaged")]
    with pytest.raises(InputError, match=r"B_19.png is damaged; fetch"):
        write_records(references, path, workers=workers)
    left = content(path)
    assert {name: left[name] for name in left if not name.startswith(".conversion/")} == before


def test_one_damaged_image_costs_no_other(tmp_path):
    path, journal = tmp_path / "records", tmp_path / "journal"
    references = drawn({"train": 20, "val": 1}, journal=str(journal))
    damaged = [*references[:-1], replace(references[-1], trouble="damaged")]
    with pytest.raises(InputError, match=r"A_20.png is damaged"):
        write_records(damaged, path, workers=1)
    assert not (path / MANIFEST_NAME).exists()
    journal.unlink()
    write_records(references, path, workers=1)
    assert loads(journal) == ["20"]
    write_records(references, tmp_path / "at once", workers=1)
    assert content(path) == content(tmp_path / "at once")


def test_a_failing_conversion_leaves_no_new_folder(tmp_path):
    references = drawn({"train": 1, "val": 1}, trouble="damaged")
    with pytest.raises(InputError, match=r"A_0.png is damaged"):
        write_records(references, tmp_path / "new" / "records", workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_the_work_continued(expected, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))  # a shard is larger, a part not
    try:
        with pytest.raises(UnfinishedError, match=r"cannot be written to \(File too large\)"):
            write_records(drawn(COUNTS), tmp_path / "records", workers=1, shard_images=12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "records" / MANIFEST_NAME).exists()
    manifest = write_records(drawn(COUNTS), tmp_path / "records", workers=1, shard_images=12)
    assert manifest == expected[0]
    assert content(tmp_path / "records") == expected[1]


def test_converting_needs_no_tensorflow():
    code = """
import sys
import unet_keras.records.writer
import unet_keras.sources.coco, unet_keras.sources.folders
sys.exit("tensorflow" in sys.modules or "keras" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_images_of_different_kinds_are_refused(tmp_path):
    references = [*drawn({"train": 9}), *drawn({"val": 1}, first=9, dtype="uint16")]
    with pytest.raises(InputError, match="one dtype and number of channels"):
        write_records(references, tmp_path / "records", workers=1)
    assert not (tmp_path / "records" / MANIFEST_NAME).exists()


def test_a_dead_worker_is_named_and_its_work_continued(expected, tmp_path):
    path = tmp_path / "records"
    references = drawn(COUNTS)
    deadly = [*references[:20], *drawn({"train": 1}, first=20, trouble="dies"), *references[21:]]
    with pytest.raises(UnfinishedError, match=r"died.*records.workers=1.*is kept"):
        write_records(deadly, path, workers=2, shard_images=12)
    assert (path / ".conversion").is_dir()
    assert write_records(references, path, workers=1, shard_images=12) == expected[0]
    assert content(path) == expected[1]


def test_shards_of_another_layout_and_only_those_are_removed(tmp_path):
    path = tmp_path / "records"
    write_records(drawn({"train": 4}), path, workers=1, shard_images=1)
    (path / "mine.tfrecord").write_bytes(b"")
    (path / "notes.txt").write_text("mine")
    write_records(drawn({"train": 4}), path, workers=1, shard_images=4)
    assert sorted(file.name for file in path.iterdir()) == [
        ".conversion.json",
        "manifest.json",
        "mine.tfrecord",
        "notes.txt",
        "train-00000-of-00001.tfrecord",
    ]


def test_two_conversions_into_one_folder_are_refused(tmp_path):
    path = tmp_path / "records"
    other = []

    def intrude(images):
        with pytest.raises(UnfinishedError, match="Another process is converting into"):
            write_records(drawn({"train": 1}), path, workers=1)
        other.append(images)

    write_records(drawn({"train": 2}), path, workers=1, progress=intrude)
    assert other == [2]
    assert verify(path) == []


def test_an_interrupted_conversion_goes_on(expected, tmp_path, caplog):
    path, journal = tmp_path / "records", tmp_path / "journal"
    references = drawn(COUNTS, journal=str(journal))
    for parts in (1, 2, 3):  # the finished ones are not converted again
        with pytest.raises(KeyboardInterrupt):
            write_records(
                references, path, workers=1, shard_images=12, progress=Interrupter(parts - 1)
            )
        assert not (path / MANIFEST_NAME).exists()
    with caplog.at_level("INFO"):
        manifest = write_records(references, path, workers=1, shard_images=12)
    assert "3 of 6 parts were converted before" in caplog.text
    assert manifest == expected[0]
    assert loads(journal) == [str(k) for k in range(26)]
    files = {name: data for name, data in content(path).items() if not name.startswith(".")}
    assert files.items() <= expected[1].items()


def test_a_file_that_goes_away_meanwhile_is_nobodys_mistake(tmp_path, monkeypatch):
    """Workers that outlive a killed parent for a moment still rename what they wrote."""
    listed = Path.iterdir
    gone = "x.part.1.temporary"
    monkeypatch.setattr(
        Path,
        "iterdir",
        lambda folder: iter([*listed(folder), *([folder / gone] if folder.name[0] == "." else [])]),
    )
    assert write_records(drawn({"train": 1}), tmp_path / "records", workers=1).shards


class Interrupter:
    """Interrupts after so many parts."""

    def __init__(self, parts):
        self.left = parts

    def __call__(self, images):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_damaged_part_is_converted_again(expected, tmp_path):
    path = tmp_path / "records"
    with pytest.raises(KeyboardInterrupt):
        write_records(drawn(COUNTS), path, workers=1, shard_images=12, progress=Interrupter(0))
    (part,) = (path / ".conversion").glob("*.part")
    flipped = bytearray(part.read_bytes())
    flipped[100] ^= 1
    part.write_bytes(flipped)
    with pytest.raises(UnfinishedError, match="damaged on the disk; start again"):
        write_records(drawn(COUNTS), path, workers=1, shard_images=12)
    write_records(drawn(COUNTS), path, workers=1, shard_images=12)
    assert content(path) == expected[1]


def test_time_is_accounted_for(tmp_path):
    seconds = {}
    write_records(drawn({"train": 2}, seconds=0.01), tmp_path / "r", workers=1, seconds=seconds)
    assert set(seconds) == {"load", "labels", "border", "count", "encode", "write"}
    assert seconds["load"] >= 0.02


def test_wrong_arguments_are_refused(tmp_path):
    for references, named, message in (
        ([], {}, "no image to convert"),
        (drawn({"train": 1}), {"workers": 0}, "records.workers=0 must be at least 1"),
        (drawn({"train": 1}), {"shard_images": 0}, "records.shard_images=0"),
        (drawn({"train": 1}), {"maps": ("edges",)}, "records.maps"),
        (drawn({"train": 1}), {"maps": "border"}, r"must be a list of names: \['border'\]"),
        (drawn({"train": 2, "valid": 1}), {}, "is in split 'valid'; splits are train, val, test"),
        (drawn({"train": 1}) * 2, {}, "Two images have the id .*; ids must be unique"),
    ):
        with pytest.raises(InputError, match=message):
            write_records(references, tmp_path / "records", **named)
    assert not (tmp_path / "records").exists()


def test_references_may_be_made_one_by_one(expected, tmp_path):
    one_by_one = (reference for reference in drawn(COUNTS))
    write_records(one_by_one, tmp_path / "records", workers=1, shard_images=12)
    assert content(tmp_path / "records") == expected[1]


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"records.path=.*file.* cannot be written to"):
        write_records(drawn({"train": 1}), tmp_path / "file", workers=1)
    assert (tmp_path / "file").read_text() == ""


def test_the_number_of_processes_is_bounded():
    assert worker_count(1000, 1000) == 32
    assert worker_count(5, 3) == 3
    assert worker_count(None, 1) == 1
    assert worker_count(None, 10_000) <= (os.cpu_count() or 1)
    assert worker_count(3, 0) == 1


def test_a_changed_file_is_converted_anew(tmp_path):
    from PIL import Image

    from unet_keras.sources.folders import folder_references

    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (20, 10), 3).save(tmp_path / name / "a.png")

    def convert():
        references = folder_references(
            tmp_path / "images", tmp_path / "masks", fractions=(1, 0, 0), kind="binary"
        )
        return write_records(references, tmp_path / "records", workers=1)

    first = convert()
    assert convert() == first
    time.sleep(0.01)
    Image.new("L", (20, 10), 4).save(tmp_path / "images" / "a.png")
    assert convert().mean == 4
    shutil.rmtree(tmp_path / "records")
