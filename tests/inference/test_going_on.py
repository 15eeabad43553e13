"""A prediction that was stopped goes on where it was, as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.inference.test_results import contents
from unet_keras.errors import InputError
from unet_keras.inference.journal import JOURNAL, Finished, Journal
from unet_keras.inference.pictures import find_pictures
from unet_keras.inference.results import SETTINGS
from unet_keras.inference.segmenting import Segmenter, segment_pictures
from unet_keras.inference.writing import OUTPUTS
from unet_keras.locking import take


class StopError(Exception):
    """What ends a prediction in the middle."""


class TestGoingOn:
    """A prediction that was stopped, by whatever."""

    def segment(self, cells, output, *, stop_at=None, **changed):
        """Segment the images; return which of them were predicted."""
        done = []

        def predict(image):
            if len(done) == stop_at:
                raise StopError
            done.append(image)
            return (image / 255).astype(np.float32)

        segment_pictures(
            find_pictures([str(cells)]),
            Segmenter(predict, 1, np.dtype("uint8")),
            output,
            **{"write": OUTPUTS, "made_with": {"threshold": 0.5}, **changed},
        )
        return len(done)

    @pytest.fixture
    def stopped(self, cells, tmp_path):
        """Results of which two images or so were written."""
        with pytest.raises(StopError):
            self.segment(cells, tmp_path / "out", stop_at=4)
        assert not (tmp_path / "out" / "counts.csv").exists()
        return tmp_path / "out"

    def test_the_results_are_those_of_one_go(self, cells, stopped, tmp_path, caplog):
        done = len((stopped / JOURNAL).read_text().splitlines()) - 1
        assert 1 <= done <= 4
        with caplog.at_level("INFO"):
            assert self.segment(cells, stopped) == 5 - done
        assert f"goes on behind the {done} that are done" in caplog.text
        assert self.segment(cells, tmp_path / "whole") == 5
        assert contents(stopped) == contents(tmp_path / "whole")
        assert JOURNAL not in contents(stopped)
        assert self.segment(cells, stopped) == 5, "what was completed begins anew"

    def test_other_settings_begin_anew(self, cells, stopped):
        assert self.segment(cells, stopped, made_with={"threshold": 0.4}) == 5

    def test_other_kinds_begin_anew(self, cells, stopped):
        assert self.segment(cells, stopped, write=("mask", "csv")) == 5

    def test_a_changed_image_is_segmented_again(self, cells, stopped, tmp_path):
        done = len((stopped / JOURNAL).read_text().splitlines()) - 1
        image = np.zeros((40, 50), np.uint8)
        image[3:30, 4:9] = 255
        Image.fromarray(image).save(cells / "0.png")
        assert self.segment(cells, stopped) == 5 - done + 1
        self.segment(cells, tmp_path / "whole")
        assert contents(stopped) == contents(tmp_path / "whole")

    def test_a_lost_file_is_written_again(self, cells, stopped, tmp_path):
        done = len((stopped / JOURNAL).read_text().splitlines()) - 1
        (stopped / "0_mask.png").unlink()
        assert self.segment(cells, stopped) == 5 - done + 1
        self.segment(cells, tmp_path / "whole")
        assert contents(stopped) == contents(tmp_path / "whole")

    def test_wherever_its_file_is_cut(self, cells, stopped, tmp_path, rng):
        self.segment(cells, tmp_path / "whole")
        whole = contents(tmp_path / "whole")
        kept = (stopped / JOURNAL).read_bytes()
        for length in [0, 1, *rng.integers(2, len(kept), 6), len(kept) - 1]:
            (stopped / JOURNAL).write_bytes(kept[:length])
            assert self.segment(cells, stopped) <= 5
            assert contents(stopped) == whole
        (stopped / JOURNAL).write_bytes(kept[:90] + b"rubbish\n\xff" + kept[90:])
        self.segment(cells, stopped)
        assert contents(stopped) == whole

    def test_a_second_process_is_kept_out(self, cells, stopped):
        pytest.importorskip("fcntl")
        before = contents(stopped)
        with (stopped / JOURNAL).open("rb") as file:
            assert take(file)
            for made_with in ({"threshold": 0.5}, {"threshold": 0.4}):
                with pytest.raises(InputError, match="another process is predicting into"):
                    self.segment(cells, stopped, made_with=made_with)
        assert contents(stopped) == before
        assert self.segment(cells, stopped) < 5

    def test_what_it_was_to_replace_is_not_left(self, cells, tmp_path):
        """Masks and label maps of two thresholds would be told apart by nobody."""
        out, both = tmp_path / "out", ("mask", "labels")
        self.segment(cells, out, write=both)
        with pytest.raises(StopError):
            self.segment(cells, out, write=both, made_with={"threshold": 0.3}, stop_at=3)
        with pytest.raises(
            InputError, match=r"labels of an earlier run, some of it made with thresho"
        ):
            self.segment(cells, out, write=("mask",), made_with={"threshold": 0.3})
        assert self.segment(cells, out, write=both, made_with={"threshold": 0.3}) < 5
        self.segment(cells, tmp_path / "whole", write=both, made_with={"threshold": 0.3})
        assert contents(out) == contents(tmp_path / "whole")
        assert self.segment(cells, out, write=("mask",), made_with={"threshold": 0.3}) == 5

    def test_what_is_refused_leaves_it(self, cells, stopped):
        kept = (stopped / SETTINGS).read_text()
        (stopped / SETTINGS).write_text(kept.replace('"rois"', '"rois", "probability"'))
        (stopped / "other_probability.tif").touch()
        before = contents(stopped)
        with pytest.raises(InputError, match=r"holds .*probability.* of an earlier run"):
            self.segment(cells, stopped, made_with={"threshold": 0.4}, write=("mask", "csv"))
        assert contents(stopped) == before
        (stopped / "other_probability.tif").unlink()
        assert self.segment(cells, stopped) < 5

    def test_rows_that_came_meanwhile_are_not_replaced(self, cells, tmp_path):
        """The command looks before it loads a network, which takes as long as other predictions."""
        other = tmp_path / "other"
        other.mkdir()
        shutil.copy(cells / "0.png", other / "another.png")
        self.segment(other, tmp_path / "out", write=("mask", "csv"))
        before = contents(tmp_path / "out")
        with pytest.raises(InputError, match=r"has 1 images that are not among these"):
            self.segment(cells, tmp_path / "out", write=("mask", "csv"))
        assert contents(tmp_path / "out") == before

    def test_images_in_parts_are_kept_elsewhere(self, cells, tmp_path):
        picture = find_pictures([str(cells)])[0]
        journal = Journal(tmp_path, {"write": []}).__enter__()
        journal.begin()
        journal.add(picture, Finished((9, 9), {"cells": 1}, in_parts=True))
        journal.__exit__(StopError, None, None)
        with Journal(tmp_path, {"write": []}) as journal:
            assert len(journal) == 0


@pytest.mark.slow
def test_a_killed_command_goes_on(run, bright_file, cells, tmp_path, caplog):
    caplog.set_level("INFO")
    for number in range(5, 60):
        shutil.copy(cells / f"{number % 5}.png", cells / f"{number}.png")
    out = tmp_path / "out"
    arguments = [bright_file, cells, "--output", out, "--write", "all"]
    command = [sys.executable, "-m", "unet_keras.predict", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not (out / JOURNAL).exists() or (out / JOURNAL).read_bytes().count(b"\n") < 4:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / "cells.csv").exists()
    status, text = run(*arguments)
    assert status == 0
    assert "goes on behind the " in text
    assert run(bright_file, cells, "--output", tmp_path / "whole", "--write", "all")[0] == 0
    assert contents(out) == contents(tmp_path / "whole")
