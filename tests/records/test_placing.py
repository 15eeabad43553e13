"""Records take no place from files of others, and none from who reads them."""

import pytest

from tests.records.examples import drawn
from tests.records.test_writer import COUNTS, content
from unet_keras.errors import InputError
from unet_keras.locking import hold_folder
from unet_keras.records.parts import UnfinishedError
from unet_keras.records.placing import in_use
from unet_keras.records.writer import write_records


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of records of `COUNTS`, with their bytes."""
    path = tmp_path_factory.mktemp("made") / "records"
    write_records(drawn(COUNTS), path, workers=1, shard_images=12)
    return content(path)


@pytest.mark.parametrize(
    "name", ["manifest.json", "report.html", "report.json", "train-00000-of-00002.tfrecord"]
)
def test_files_of_others_are_not_replaced(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"holds {name}, which is not of records"):
        write_records(drawn({"train": 1}), tmp_path, workers=1)
    assert content(tmp_path) == {name: b"mine"}


def test_a_run_is_no_folder_for_records(made, tmp_path):
    """It keeps a copy of its records' manifest."""
    (tmp_path / "manifest.json").write_bytes(made["manifest.json"])
    (tmp_path / "config.yaml").write_text("seed: 0")
    with pytest.raises(InputError, match=r"holds manifest\.json, which is not of records"):
        write_records(drawn({"train": 1}), tmp_path, workers=1)


def test_damaged_records_are_made_anew(made, tmp_path):
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "manifest.json").write_text("damaged")
    write_records(drawn(COUNTS), tmp_path, workers=1, shard_images=12)
    assert content(tmp_path) == made


def test_records_that_are_read_stay(tmp_path):
    """As by a training, which would go on with other images."""
    pytest.importorskip("fcntl")
    write_records(drawn({"train": 1}), tmp_path / "records", workers=1)
    before = content(tmp_path / "records")
    with in_use(tmp_path / "records"), in_use(tmp_path / "records"):
        write_records(drawn({"train": 1}), tmp_path / "records", workers=1)
        with pytest.raises(UnfinishedError, match="is being read, as by a training"):
            write_records(drawn({"train": 2}), tmp_path / "records", workers=1)
        there = content(tmp_path / "records")
        assert {name: there[name] for name in before} == before
    assert write_records(drawn({"train": 2}), tmp_path / "records").splits["train"].images == 2


def test_records_are_not_read_while_they_are_replaced(tmp_path):
    pytest.importorskip("fcntl")
    with (
        hold_folder(tmp_path),
        pytest.raises(InputError, match="is being replaced by another process"),
        in_use(tmp_path),
    ):
        pass
