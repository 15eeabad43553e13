from pathlib import Path

import tensorflow as tf

from tests.training.runs import points
from unet_keras.training.events import cut_events


def write(folder: Path, epochs: range) -> Path:
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for epoch in epochs:
            tf.summary.scalar("loss", 1.0 / epoch, epoch)
            tf.summary.image("panel", tf.zeros([1, 4, 4, 3]), epoch)
    writer.close()
    return max(folder.glob("events*"), key=lambda path: path.stat().st_mtime_ns)


def test_points_after_the_epoch_go_and_others_stay(tmp_path: Path) -> None:
    write(tmp_path / "train", range(1, 6))
    write(tmp_path / "validation", range(1, 4))
    cut_events(tmp_path, 3)
    write(tmp_path / "train", range(4, 7))
    assert [step for step, _ in points(tmp_path / "train")["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in points(tmp_path / "train")["panel"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in points(tmp_path / "validation")["loss"]] == [1, 2, 3]


def test_a_half_written_point_goes(tmp_path: Path) -> None:
    file = write(tmp_path, range(1, 6))
    whole = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(whole - 7)
    cut_events(tmp_path, 5)
    assert [step for step, _ in points(tmp_path)["loss"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in points(tmp_path)["panel"]] == [1, 2, 3, 4]
    assert file.stat().st_size < whole - 7


def test_a_run_that_begins_anew_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "board" / "train", range(1, 3))
    cut_events(tmp_path / "board", 0)
    assert not (tmp_path / "board").exists()
    cut_events(tmp_path / "board", 0)
