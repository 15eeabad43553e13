"""Folders of results: nothing is lost or mixed, and what was stopped goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi

from unet_keras.errors import InputError
from unet_keras.inference.journal import JOURNAL, Finished, Journal
from unet_keras.inference.pictures import find_pictures
from unet_keras.inference.results import SETTINGS, demand_kept_rows
from unet_keras.inference.segmenting import Segmenter, segment_pictures
from unet_keras.inference.writing import OUTPUTS
from unet_keras.locking import take


@pytest.mark.parametrize(("kind", "name"), [("csv", "counts.csv"), ("coco", "predictions.json")])
def test_rows_of_other_images_are_not_replaced(run, bright_file, folder, tmp_path, kind, name):
    Image.new("L", (50, 40)).save(folder / "b.png")
    table = tmp_path / "out" / name
    output = ("--output", tmp_path / "out", "--write", kind)
    assert run(bright_file, folder / "a.png", *output)[0] == 0
    assert run(bright_file, folder, *output)[0] == 0, "more images than before are no loss"
    assert run(bright_file, folder, *output)[0] == 0
    before = {path: path.read_bytes() for path in table.parent.iterdir()}
    status, text = run(bright_file, folder / "a.png", *output)
    assert status == 2
    assert f"{name} of an earlier run has 1 images that are not among these, such as b.png" in text
    assert {path: path.read_bytes() for path in table.parent.iterdir()} == before
    assert run(bright_file, folder / "a.png", *output[:2], "--write", "mask")[0] == 0
    table.write_text("mine\n1\n")
    status, text = run(bright_file, folder, *output)
    assert status == 2
    assert f"{name} is not of this command and would be replaced" in text


def test_results_of_another_plate_are_not_replaced(run, bright_file, folder, tmp_path):
    """Microscopes name the wells of all plates alike."""
    other = tmp_path / "plate2"
    shutil.copytree(folder, other)
    output = ("--output", tmp_path / "out", "--write", "mask")
    assert run(bright_file, folder, *output)[0] == 0
    assert run(bright_file, folder / "a.png", *output)[0] == 0
    status, text = run(bright_file, other, *output)
    assert status == 2
    assert f"holds results of {folder / 'a.png'}, which those of {other / 'a.png'} would" in text
    folder.rename(tmp_path / "moved")
    assert run(bright_file, tmp_path / "moved", *output)[0] == 0


def test_results_of_another_ending_are_not_replaced(run, bright_file, folder, tmp_path):
    output = ("--output", tmp_path / "out", "--write", "mask")
    assert run(bright_file, folder, *output)[0] == 0
    (tmp_path / "b").mkdir()
    Image.new("L", (50, 40)).save(tmp_path / "b" / "a.tif")
    status, text = run(bright_file, tmp_path / "b", *output)
    assert status == 2
    assert f"holds results of {folder / 'a.png'}, which those of" in text


def test_corrected_outlines_are_not_replaced(run, bright_file, folder, tmp_path):
    image = np.zeros((40, 50), np.uint8)
    image[5:20, 5:20] = 255
    Image.fromarray(image).save(folder / "a.png")
    output = ("--output", tmp_path / "out", "--write", "rois")
    for _ in range(2):
        assert run(bright_file, folder, *output)[0] == 0
    path = tmp_path / "out" / "a_rois.zip"
    (roi,) = ImagejRoi.fromfile(path)
    path.unlink()
    with zipfile.ZipFile(path, "w") as file:  # as the ROI Manager saves it
        file.writestr("1.roi", roi.tobytes())
    before = path.read_bytes()
    status, text = run(bright_file, folder, *output)
    assert status == 2
    assert "a_rois.zip was changed since it was written, and would be replaced: move it" in text
    assert run(bright_file, folder, *output[:2], "--write", "mask")[0] == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("held", ["", "[]", '{"images": 1}', '{"images": [3]}', "\xff\xfe"])
def test_files_of_other_programs_are_not_replaced(folder, tmp_path, held):
    (tmp_path / "predictions.json").write_text(held, encoding="latin-1")
    pictures = find_pictures([str(folder)])
    with pytest.raises(InputError, match=r"predictions\.json is not of this command"):
        demand_kept_rows(tmp_path, pictures, {"coco"})
    demand_kept_rows(tmp_path, pictures, {"csv"})


@pytest.fixture
def cells(rng, tmp_path):
    """A folder of five images of bright squares."""
    path = tmp_path / "cells"
    path.mkdir()
    for number in range(5):
        image = rng.integers(0, 100, (40, 50)).astype(np.uint8)
        for top, left in rng.integers(0, 30, (4, 2)):
            image[top : top + 7, left : left + 7] = 255
        Image.fromarray(image).save(path / f"{number}.png")
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestSettings:
    def test_they_say_what_results_were_made_with(self, run, bright_file, folder, tmp_path):
        output = tmp_path / "out"
        options = ("--write", "mask", "--threshold", "0.25", "--tta")
        assert run(bright_file, folder, "--output", output, *options)[0] == 0
        settings = json.loads((output / SETTINGS).read_text())
        found = [settings[key] for key in ("threshold", "tta", "write", "minimum_area")]
        assert found == [0.25, True, ["mask"], 10]
        (network,) = settings["networks"]
        assert network["path"] == str(bright_file)
        sums = subprocess.run(["sha256sum", bright_file], capture_output=True, check=True)
        assert network["sha256"] == sums.stdout.split()[0].decode()

    def test_kinds_that_would_contradict_are_not_left(self, run, bright_file, folder, tmp_path):
        output = ("--output", tmp_path / "out")
        assert run(bright_file, folder, *output, "--write", "mask,labels,csv")[0] == 0
        before = contents(tmp_path / "out")
        status, text = run(bright_file, folder, *output, "--write", "mask", "--threshold", "0.3")
        assert status == 2
        assert "out holds labels, csv of an earlier run, made with threshold 0.5 (now 0.3)" in text
        assert "write them anew (--write mask,labels,csv), or give another --output" in text
        assert text.count("\n") == 1
        assert contents(tmp_path / "out") == before
        for path in (tmp_path / "out").glob("*_labels.tif"):
            path.unlink()
        assert run(bright_file, folder, *output, "--write", "mask,csv", "--threshold", ".3")[0] == 0
        # the same settings add to what is there
        assert run(bright_file, folder, *output, "--write", "rois", "--threshold", ".3")[0] == 0
        kept = json.loads((tmp_path / "out" / SETTINGS).read_text())
        assert (kept["write"], kept["threshold"]) == (["csv", "mask", "rois"], 0.3)

    def test_results_of_others_made_otherwise_are_told(self, run, bright_file, cells, tmp_path):
        output = ("--output", tmp_path / "out", "--write", "mask")
        assert run(bright_file, cells / "0.png", cells / "1.png", *output)[0] == 0
        status, text = run(bright_file, cells / "1.png", *output, "--threshold", "0.3")
        assert status == 2
        assert "holds results of 0, made with threshold 0.5 (now 0.3): remove them, or" in text
        assert run(bright_file, cells, *output)[0] == 0

    def test_another_network_is_another_setting(
        self, run, bright_file, make_model, folder, tmp_path
    ):
        make_model().save(tmp_path / "b.keras")
        output = ("--output", tmp_path / "out", "--write")
        assert run(bright_file, folder, *output, "mask,labels")[0] == 0
        status, text = run(tmp_path / "b.keras", folder, *output, "mask")
        assert (status, "holds labels of an earlier run, made with another network" in text) == (
            2, True,
        )  # fmt: skip
        assert run(tmp_path / "b.keras", folder, *output, "labels,mask")[0] == 0

    @pytest.mark.parametrize("held", ["", "[]", "{", '{"write": ["mask"]}', '{"replacing": 5}'])
    def test_damaged_settings_are_written_anew(self, run, bright_file, folder, tmp_path, held):
        output = ("--output", tmp_path / "out", "--write", "mask")
        assert run(bright_file, folder, *output)[0] == 0
        (tmp_path / "out" / SETTINGS).write_text(held)
        assert run(bright_file, folder, *output)[0] == 0
        assert json.loads((tmp_path / "out" / SETTINGS).read_text())["threshold"] == 0.5


@pytest.mark.parametrize("kind", ["mask", "labels"])
def test_corrected_masks_are_not_replaced(run, bright_file, folder, tmp_path, kind):
    output = ("--output", tmp_path / "out", "--write", kind)
    for _ in range(2):
        assert run(bright_file, folder, *output)[0] == 0
    path = tmp_path / "out" / {"mask": "a_mask.png", "labels": "a_labels.tif"}[kind]
    if kind == "mask":
        with Image.open(path) as mask:
            pixels = np.array(mask)
        Image.fromarray(255 - pixels).save(path)
    else:
        tifffile.imwrite(path, tifffile.imread(path)[::-1])
    before = path.read_bytes()
    status, text = run(bright_file, folder, *output)
    assert status == 2
    assert f"{path.name} was changed since it was written, and would be replaced: move it" in text
    assert path.read_bytes() == before


def test_files_of_an_image_that_became_unreadable_are_told(run, bright_file, cells, tmp_path):
    output = ("--output", tmp_path / "out", "--write", "mask,csv")
    assert run(bright_file, cells, *output)[0] == 0
    for name in ("1", "new"):
        (cells / f"{name}.png").write_bytes(b"no image")
    status, text = run(bright_file, cells, *output)
    assert status == 1
    assert text.count("the files that an earlier run has written of it stay") == 1
    assert (tmp_path / "out" / "1_mask.png").exists()


@pytest.mark.parametrize("kinds", ["csv", "coco", "mask,csv,coco"])
def test_rows_of_an_image_that_became_unreadable_stay(run, bright_file, cells, tmp_path, kinds):
    output = ("--output", tmp_path / "out", "--write", kinds)
    assert run(bright_file, cells, *output)[0] == 0
    before = read_tables(tmp_path / "out")
    (cells / "1.png").write_bytes(b"no image")
    assert run(bright_file, cells, *output)[0] == 1
    assert read_tables(tmp_path / "out") == before


@pytest.mark.parametrize("kinds", [("csv", "csv,coco"), ("coco", "coco,csv")])
def test_rows_that_are_not_there_are_not_made_up(run, bright_file, cells, tmp_path, kinds):
    """Names say well and time, so that counts become growth too."""
    for number, image in enumerate(sorted(cells.iterdir())):
        image.rename(cells / f"A172_Phase_C7_1_0{number}d00h00m_1.png")
    out = tmp_path / "out"
    assert run(bright_file, cells, "--output", out, "--write", kinds[0])[0] == 0
    before = read_tables(out)
    gone = cells / "A172_Phase_C7_1_01d00h00m_1.png"
    gone.write_bytes(b"no image")
    assert run(bright_file, cells, "--output", out, "--write", kinds[1])[0] == 1
    after = read_tables(out)
    assert {name: after[name] for name in before} == before
    for name in after.keys() - before.keys():
        assert not any(gone.name in row for row in after[name])
    assert (out / "growth.csv").exists()


def test_tables_of_other_programs_are_told_before_anything_is_predicted(
    run, bright_file, cells, tmp_path
):
    out = tmp_path / "out"
    assert run(bright_file, cells, "--output", out, "--write", "csv")[0] == 0
    (out / "cells.csv").write_text((out / "cells.csv").read_text().replace(",", ";"))
    before = contents(out)
    status, text = run(bright_file, cells, "--output", out, "--write", "csv")
    assert status == 2
    assert "cells.csv is not of this command and would be replaced" in text
    assert contents(out) == before


def test_settings_that_come_back_are_not_those_that_were_replaced(
    run, bright_file, cells, tmp_path
):
    output = ("--output", tmp_path / "out", "--write", "mask")
    assert run(bright_file, cells, *output)[0] == 0
    whole = (cells / "1.png").read_bytes()
    (cells / "1.png").write_bytes(b"no image")
    assert run(bright_file, cells, *output, "--threshold", "0.3")[0] == 1
    assert run(bright_file, cells, *output)[0] == 1
    replacing = json.loads((tmp_path / "out" / SETTINGS).read_text())["replacing"]
    assert [one["threshold"] for one in replacing] == [0.3]
    (cells / "1.png").write_bytes(whole)
    assert run(bright_file, cells, *output)[0] == 0
    assert "replacing" not in json.loads((tmp_path / "out" / SETTINGS).read_text())


def test_nothing_is_replaced_where_nothing_can_be_segmented(run, bright_file, cells, tmp_path):
    out = tmp_path / "out"
    output = ("--output", out, "--write", "mask,csv,coco")
    assert run(bright_file, cells, *output)[0] == 0
    before = contents(out)
    for image in cells.iterdir():
        image.write_bytes(b"no image")
    for more in ((), ("--threshold", "0.3")):
        assert run(bright_file, cells, *output, *more)[0] == 1
        assert contents(out) == before
    assert run(bright_file, cells, "--output", tmp_path / "new")[0] == 1
    assert contents(tmp_path / "new") == {}


def test_rows_of_other_settings_are_not_kept(run, bright_file, cells, tmp_path):
    out = tmp_path / "out"
    output = ("--output", out, "--write", "mask,csv")
    assert run(bright_file, cells, *output)[0] == 0
    whole = (cells / "1.png").read_bytes()
    (cells / "1.png").write_bytes(b"no image")
    status, text = run(bright_file, cells, *output, "--threshold", "0.3")
    assert status == 1
    assert (
        "left out of the tables: 1 image, made with other settings, such as those of 1.png" in text
    )
    assert "1.png" not in (out / "counts.csv").read_text()
    replacing = json.loads((out / SETTINGS).read_text())["replacing"]
    assert [one["threshold"] for one in replacing] == [0.5], "of 1_mask.png"
    (cells / "1.png").write_bytes(whole)
    assert run(bright_file, cells, *output, "--threshold", "0.3")[0] == 0
    assert "1.png" in (out / "counts.csv").read_text()
    assert "replacing" not in json.loads((out / SETTINGS).read_text())


def read_tables(output):
    """Rows of all tables, whatever their order; numbers of COCO's images and cells left out."""
    rows = {
        path.name: sorted(path.read_text().splitlines()) for path in sorted(output.glob("c*.csv"))
    }
    if (output / "predictions.json").exists():
        coco = json.loads((output / "predictions.json").read_text())
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        rows["coco"] = sorted(
            str((names[cell["image_id"]], {**cell, "id": 0, "image_id": 0}))
            for cell in coco["annotations"]
        )
        rows["images"] = sorted(str({**image, "id": 0}) for image in coco["images"])
    return rows


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
