"""TFRecord files are TensorFlow's own, and no damage passes."""

import numpy as np
import pytest
import tensorflow as tf

from unet_keras.records.framing import FramingError, frame, read_frames

RECORDS = [b"", b"one", bytes(range(256)) * 300]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(map(frame, RECORDS)))
    return path


def test_bytes_are_those_tensorflow_writes(file, tmp_path):
    other = tmp_path / "other.tfrecord"
    with tf.io.TFRecordWriter(str(other)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert file.read_bytes() == other.read_bytes()


def test_records_return(file):
    assert list(read_frames(file)) == RECORDS


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "empty").touch()
    assert list(read_frames(tmp_path / "empty")) == []


def test_every_flipped_bit_is_found(file, rng):
    whole = file.read_bytes()
    places = [*range(40), *rng.integers(0, len(whole), 200)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(FramingError, match=r"record \d at byte \d+ (fails|is cut off)"):
            list(read_frames(file))


def test_every_cut_but_between_records_is_found(file):
    whole = file.read_bytes()
    ends = np.cumsum([len(frame(record)) for record in RECORDS]).tolist()
    for length in [*range(1, 60), len(whole) - 1]:
        file.write_bytes(whole[:length])
        if length in ends:
            continue
        with pytest.raises(FramingError, match="is cut off"):
            list(read_frames(file))


def test_the_record_is_named(file):
    damaged = bytearray(file.read_bytes())
    damaged[16 + 12] ^= 1  # in the data of the second record; the first has 16 bytes
    file.write_bytes(damaged)
    frames = read_frames(file)
    assert next(frames) == b""
    with pytest.raises(FramingError, match="record 1 at byte 16 fails its checksum"):
        next(frames)
