"""The manifest returns as it was written, and no damage to records passes."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.records.examples import drawn
from unet_keras.errors import InputError
from unet_keras.records.framing import frame, read_frames
from unet_keras.records.manifest import (
    MANIFEST_NAME,
    STAMP_NAME,
    demand_intact,
    read_manifest,
    verify,
)
from unet_keras.records.writer import write_records

FIRST = "train-00000-of-00002.tfrecord"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "records"
    manifest = write_records(
        drawn({"train": 6, "test": 2}, classes=2), path, workers=1, shard_images=3
    )
    return path, manifest


@pytest.fixture
def records(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "records")


def edit(records, **changed):
    state = json.loads((records / MANIFEST_NAME).read_text())
    (records / MANIFEST_NAME).write_text(json.dumps({**state, **changed}))


def test_it_returns_as_it_was_written(written):
    path, manifest = written
    assert read_manifest(path) == manifest
    assert read_manifest(str(path)).to_text() == (path / MANIFEST_NAME).read_text()


def test_intact_records_have_no_problem(records):
    assert verify(records) == []
    demand_intact(records)
    demand_intact(records, thorough=True)


def test_all_splits_are_there(written):
    _, manifest = written
    assert list(manifest.splits) == ["train", "val", "test"]
    assert manifest.splits["val"].images == 0
    assert manifest.splits["val"].shards == ()


def test_absent_records_say_how_to_make_them(tmp_path):
    with pytest.raises(InputError, match=r"no records in .*nowhere.*make_records CONFIG records"):
        read_manifest(tmp_path / "nowhere")
    (tmp_path / "half" / ".conversion").mkdir(parents=True)
    with pytest.raises(InputError, match=r"interrupted; run it again, it continues"):
        read_manifest(tmp_path / "half")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"splits": {}}', "\x00"])
def test_what_is_no_manifest_is_refused(records, text):
    (records / MANIFEST_NAME).write_text(text)
    with pytest.raises(InputError, match=r"manifest.json cannot be read .* make the records again"):
        read_manifest(records)


def test_another_schema_version_is_refused(records):
    edit(records, schema_version=99)
    with pytest.raises(InputError, match="schema version 99, this program reads version 1"):
        read_manifest(records)


@pytest.mark.parametrize(
    "changed",
    [
        {"splits": 3},
        {"overlaps": {}},
        {"surprise": 1},
        {"maps": None},
        {"maps": "border"},
        {"maps": [3]},
        {"mean": "128"},
        {"smallest_size": [None, 3]},
        {"splits": {"a": {}}},
    ],
)
def test_a_damaged_manifest_is_refused(records, changed):
    edit(records, **changed)
    with pytest.raises(InputError, match=r"manifest.json is damaged .* make the records again"):
        read_manifest(records)


def test_a_shard_without_a_name_is_refused(records):
    splits = json.loads((records / MANIFEST_NAME).read_text())["splits"]
    splits["train"]["shards"][0]["file"] = None
    edit(records, splits=splits)
    for read in (read_manifest, verify):
        with pytest.raises(InputError, match=r"damaged \(TypeError: file is None, not of type str"):
            read(records)


def test_a_manifest_without_a_key_is_refused(records):
    # these came later: manifests without them are read
    for key in json.loads((records / MANIFEST_NAME).read_text()).keys() - {
        "ranges",
        "outline_share",
    }:
        state = json.loads((records / MANIFEST_NAME).read_text())
        del state[key]
        other = records / "other"
        other.mkdir(exist_ok=True)
        (other / MANIFEST_NAME).write_text(json.dumps(state))
        with pytest.raises(InputError, match=key):
            read_manifest(other)


def test_a_missing_shard_is_found(records):
    (records / FIRST).unlink()
    assert verify(records) == [f"{records / FIRST} is missing"]
    with pytest.raises(InputError, match=rf"{FIRST} is missing; make the records again"):
        demand_intact(records)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_shard_is_found(records, share):
    whole = (records / FIRST).read_bytes()
    (records / FIRST).write_bytes(whole[: int(share * len(whole))])
    (problem,) = verify(records)
    assert FIRST in problem
    with pytest.raises(InputError, match=f"^{re.escape(problem)}; make the records again"):
        demand_intact(records)


def test_a_shard_cut_between_records_is_found(records):
    frames = list(read_frames(records / FIRST))
    (records / FIRST).write_bytes(b"".join(map(frame, frames[:-1])))
    assert verify(records) == [f"{records / FIRST} has 2 records; manifest.json says 3"]


def test_every_flipped_bit_is_found(records, rng):
    whole = (records / FIRST).read_bytes()
    for place in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (records / FIRST).write_bytes(damaged)
        (problem,) = verify(records)
        assert f"{FIRST}: record " in problem
    with pytest.raises(InputError, match=rf"{FIRST}: record \d"):
        demand_intact(records, thorough=True)


def test_a_record_of_another_schema_is_found(records):
    frames = list(read_frames(records / FIRST))
    frames[1] = frames[1].replace(b"map/border", b"map/bordre")
    (records / FIRST).write_bytes(b"".join(map(frame, frames)))
    assert verify(records) == [f"{records / FIRST}: record 1 has no map/border"]
    frames[1] = b"something else"
    (records / FIRST).write_bytes(b"".join(map(frame, frames)))
    (problem,) = verify(records)
    assert "record 1 has no classes, file_name" in problem


def test_sound_records_in_the_wrong_place_are_found(records):
    second = FIRST.replace("00000", "00001", 1)
    (records / FIRST).rename(records / "held")
    (records / second).rename(records / FIRST)
    (records / "held").rename(records / second)
    problems = verify(records)
    assert len(problems) == 2
    assert all("SHA-256 differs" in problem for problem in problems)


def test_strays_are_found(records):
    shutil.copy(records / FIRST, records / "val-00000-of-00001.tfrecord")
    assert verify(records) == [
        f"{records / 'val-00000-of-00001.tfrecord'} is not named in manifest.json"
    ]


def test_an_edited_manifest_is_found(records):
    edit(records, mean=1.0)
    problem = f"{records / MANIFEST_NAME} is not as it was written: its SHA-256 differs"
    assert verify(records) == [problem]
    (records / STAMP_NAME).unlink()
    assert verify(records) == []


def test_several_problems_are_counted(records):
    for shard in records.glob("*.tfrecord"):
        shard.unlink()
    assert len(verify(records)) == 3
    with pytest.raises(InputError, match=r"is missing \(2 more: --verify lists them\)"):
        demand_intact(records)


def test_what_is_counted_adds_up(written):
    path, manifest = written
    train = manifest.splits["train"]
    assert train.images == sum(shard.images for shard in train.shards) == 6
    assert train.images == sum(group.images for group in train.groups.values())
    assert train.instances == sum(group.instances for group in train.groups.values())
    assert train.pixels == 6 * 40 * 56
    assert sum(manifest.class_frequencies) == pytest.approx(1)
    assert manifest.num_classes == 2
    assert manifest.smallest_size == manifest.largest_size == (40, 56)
    images = [reference.load().image for reference in drawn({"train": 6}, classes=2)]
    assert manifest.mean == pytest.approx(np.mean(images), rel=1e-12)
    assert manifest.scale == pytest.approx(np.std(images), rel=1e-12)
    assert [shard.bytes for shard in manifest.shards] == [
        (path / shard.file).stat().st_size for shard in manifest.shards
    ]
