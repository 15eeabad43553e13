"""In which order records come: all of them each round, and none just beside its neighbors."""

from collections import Counter

import pytest
import tensorflow as tf

from unet_keras.pipeline import reading
from unet_keras.pipeline.reading import endless, mixed_shards

SHARDS, IMAGES = 16, 30


@pytest.fixture
def files(tmp_path):
    """Shards of 480 records in the order of their 8 types, as sources list them."""
    names = []
    for shard in range(SHARDS):
        names.append(str(tmp_path / f"{shard:02d}.tfrecord"))
        with tf.io.TFRecordWriter(names[-1]) as writer:
            for number in range(shard * IMAGES, (shard + 1) * IMAGES):
                writer.write(f"{number} type{number // 60}".encode())
    return names


def read(files, seed, count, start=0):
    serialized = mixed_shards(files, SHARDS * IMAGES, seed)
    found = endless(serialized, SHARDS * IMAGES, seed, start).take(count)
    return [record.decode().split() for record in found.as_numpy_iterator()]


def test_types_are_mixed_where_the_buffer_holds_a_part_of_the_records(files, monkeypatch):
    monkeypatch.setattr(reading, "SHUFFLE_BUFFER", 48)
    monkeypatch.setattr(reading, "SHARDS_IN_TURN", 8)
    two_rounds = read(files, seed=3, count=2 * SHARDS * IMAGES)
    for part in (two_rounds[: SHARDS * IMAGES], two_rounds[SHARDS * IMAGES :]):
        assert len({number for number, _ in part}) == SHARDS * IMAGES
        for start in range(0, len(part), 60):
            of_types = Counter(kind for _, kind in part[start : start + 60])
            assert len(of_types) >= 4, "a stretch of few types"
    assert two_rounds[: SHARDS * IMAGES] != two_rounds[SHARDS * IMAGES :]
    assert read(files, seed=3, count=50, start=700) == two_rounds[700:750]
    assert read(files, seed=4, count=50) != two_rounds[:50]


def test_few_records_are_read_shard_after_shard(files):
    (first, *_) = mixed_shards(files, SHARDS * IMAGES, seed=1).take(1).as_numpy_iterator()
    assert first == b"0 type0"
