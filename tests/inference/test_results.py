"""Folders of results: nothing is lost or mixed, and what was stopped goes on."""

import json
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi

from unet_keras.errors import InputError
from unet_keras.inference.pictures import find_pictures
from unet_keras.inference.results import SETTINGS, demand_kept


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
        demand_kept(tmp_path, pictures, {"coco"})
    demand_kept(tmp_path, pictures, {"csv"})


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
