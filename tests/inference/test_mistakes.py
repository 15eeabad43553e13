"""What the predict command says of images that it cannot use, and of what it would spoil."""

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.inference.test_predict import rows
from unet_keras.errors import InputError
from unet_keras.inference import large
from unet_keras.inference.asking import (
    demand_model,
    demand_output,
    without_results,
)
from unet_keras.inference.tiff import TiffRegions
from unet_keras.web import uploads
from unet_keras.web.limits import Refusal


def test_a_tiff_without_its_end_is_skipped(run, bright_file, folder, rng, tmp_path):
    image = Image.fromarray(rng.integers(0, 255, (60, 80)).astype(np.uint8))
    image.save(folder / "b.tif", compression="tiff_lzw")
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:-1000])
    status, text = run(bright_file, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert text.count("skipped") == 1
    assert "b.tif is cut off" in text
    assert len(rows(tmp_path / "out/counts.csv")) == 1


@pytest.mark.parametrize(
    ("packed", "cut"),
    [
        ({}, "within"),
        ({"compression": "zlib", "rowsperstrip": 16}, "within"),
        ({"compression": "zlib", "rowsperstrip": 16}, "between"),
        ({"tile": (32, 32)}, "between"),
    ],
)
def test_a_large_tiff_without_its_end_is_skipped(
    run, bright_file, folder, rng, tmp_path, monkeypatch, packed, cut
):
    image = rng.integers(0, 255, (96, 80)).astype(np.uint8)
    path = folder / "b.tif"
    tifffile.imwrite(path, image, **packed)
    with tifffile.TiffFile(path) as file:
        offsets, sizes = file.pages[0].dataoffsets, file.pages[0].databytecounts
    end = offsets[-1] if cut == "between" and packed else offsets[-1] + sizes[-1] // 2
    path.write_bytes(path.read_bytes()[:end])
    monkeypatch.setattr(large, "LARGEST_PIXELS", 40 * 50)
    status, text = run(bright_file, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert "b.tif is cut off (" in text
    assert len(rows(tmp_path / "out/counts.csv")) == 1


def test_a_large_stack_that_fiji_does_not_list_is_skipped(
    run, bright_file, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(large, "LARGEST_PIXELS", 40 * 50)
    description = "ImageJ=1.54f\nimages=3\nslices=3"
    tifffile.imwrite(folder / "b.tif", np.zeros((96, 80), np.uint8), description=description)
    with (folder / "b.tif").open("ab") as file:
        file.write(bytes(2 * 96 * 80))
    status, text = run(bright_file, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert "b.tif holds 3 images but lists 1 of them" in text


def test_a_damaged_network_is_named(run, bright_file, folder, tmp_path):
    content = bytearray(bright_file.read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "bad.keras").write_bytes(content)
    status, text = run(tmp_path / "bad.keras", folder, "--output", tmp_path / "out")
    assert status == 2
    assert "bad.keras cannot be read as a Keras model: " in text


def test_names_that_are_no_text_are_refused(run, bright_file, folder, tmp_path):
    shutil.copy(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")
    status, text = run(bright_file, folder, "--output", tmp_path / "out")
    assert status == 2
    assert r"caf\xe9.png' is no text in UTF-8, as tables need it; rename the file" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("differ", [True, False])
def test_names_that_differ_in_capitals_are_one_on_some_systems(
    run, bright_file, folder, tmp_path, monkeypatch, differ
):
    monkeypatch.setattr("unet_keras.inference.pictures.CASES_DIFFER", differ)
    (tmp_path / "more").mkdir()
    shutil.copy(folder / "a.png", tmp_path / "more" / "A.png")
    output = ("--output", tmp_path / "out", "--write", "mask")
    status, text = run(bright_file, folder, tmp_path / "more", *output)
    assert (status == 0) == differ
    assert ("would both write" in text) != differ


def test_pages_of_a_cut_stack_are_told_apart(run, bright_file, rng, tmp_path):
    path = tmp_path / "s.tif"
    pages = [Image.fromarray(rng.integers(0, 255, (60, 80)).astype(np.uint8)) for _ in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    path.write_bytes(path.read_bytes()[: 2 * 60 * 80 + 500])
    status, text = run(bright_file, path, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert "skipped: s.tif page 2: " in text
    assert len(rows(tmp_path / "out/counts.csv")) == 2


STRANGE = {
    "wide": (np.full((40, 50), 3000, np.uint16), "uint16 values from 3000 to 3000"),
    "share": (np.full((40, 50), 0.5, np.float32), "float32 values from 0.5 to 0.5"),
    "hole": (np.full((40, 50), np.nan, np.float32), "NaN or infinite: replace them"),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("in_parts", [False, True])
def test_values_that_the_training_had_not_are_refused_as_served_ones(
    run, trained, folder, tmp_path, monkeypatch, name, in_parts
):
    image, message = STRANGE[name]
    tifffile.imwrite(folder / f"{name}.tif", image)
    if in_parts:
        monkeypatch.setattr(large, "LARGEST_PIXELS", image.size - 1)
    status, text = run(trained, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert text.count("skipped") == 1
    assert f"{name}.tif has " in text
    assert message in text
    assert [row["image"] for row in rows(tmp_path / "out/counts.csv")] == ["a.png"]
    assert [path.name for path in tmp_path.glob("out/.*")] == [".sources.json"]
    with pytest.raises(Refusal) as refused:
        uploads.fit(image, channels=1, dtype=np.dtype("uint8"), name="it")
    assert message in refused.value.message


def test_wide_files_of_known_values_are_taken(run, trained, tmp_path, rng, monkeypatch):
    image = rng.integers(0, 255, (40, 50)).astype(np.uint8)
    for dtype in (np.uint8, np.uint16, np.float32):
        tifffile.imwrite(tmp_path / f"{np.dtype(dtype)}.tif", image.astype(dtype))
    with TiffRegions(tmp_path / "uint16.tif", channels=1, dtype=np.dtype("uint8")) as opened:
        np.testing.assert_array_equal(opened[0:40, 0:50][..., 0], image)
    assert run(trained, tmp_path / "*.tif", "--output", tmp_path / "out", "--write", "mask")[0] == 0
    masks = [np.asarray(Image.open(path)) for path in tmp_path.glob("out/*_mask.png")]
    assert len(masks) == 3
    for mask in masks:
        np.testing.assert_array_equal(mask, masks[0])


def test_images_unlike_the_training_are_told_at_the_end(run, trained, folder, tmp_path):
    Image.new("L", (50, 40), 7).save(folder / "dark.png")
    status, text = run(trained, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 0
    assert "1 of 2 images lie outside what the network was trained on (grey_mean)" in text
    shutil.rmtree(tmp_path / "out")
    assert "lie outside" not in run(trained, folder / "a.png", "--output", tmp_path / "out")[1]


def test_results_are_not_segmented_again(run, bright_file, folder, tmp_path):
    assert run(bright_file, folder, "--output", folder / "results")[0] == 0
    for path in (folder / "results").iterdir():
        shutil.copy(path, folder)
    status, text = run(bright_file, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 0
    assert "left out: 4 results of an earlier prediction among the images, such as" in text
    assert [row["image"] for row in rows(tmp_path / "out/counts.csv")] == ["a.png"]
    for name in ("growth.png", "growth.csv"):
        shutil.copy(folder / "a.png", folder / "results" / name)
    status, text = run(bright_file, folder / "results", "--output", tmp_path / "out")
    assert status == 2
    assert "holds results of an earlier prediction alone" in text


def test_masks_by_themselves_and_stacks(folder):
    paths = [folder / name for name in ("s.tif", "s-00_mask.png", "b_mask.png", "a_overlay.tif")]
    assert without_results(paths) == [paths[0], *paths[2:]]


def test_results_do_not_go_where_the_images_are(run, bright_file, folder):
    status, text = run(bright_file, folder / "a.png", "--output", folder)
    assert status == 2
    assert f"--output {folder} is the folder that the images come from" in text
    assert [path.name for path in folder.iterdir()] == ["a.png"]


def test_images_in_folders_below_are_told(run, bright_file, folder, tmp_path):
    (folder / "deeper").mkdir()
    shutil.copy(folder / "a.png", folder / "deeper" / "b.png")
    for place in (folder / "results", tmp_path / "out"):  # results below are no images
        status, text = run(bright_file, folder, "--output", place)
        assert status == 0
        assert "left out: 1 image in folders below" in text
    pattern = f"{folder}/**/*.png"
    status, text = run(bright_file, pattern, "--output", tmp_path / "all", "--write", "csv")
    assert (status, "in folders below" in text) == (0, False)
    assert {row["image"] for row in rows(tmp_path / "all/counts.csv")} == {"a.png", "b.png"}


def test_patterns_take_images_and_no_results(run, bright_file, folder, tmp_path):
    assert run(bright_file, folder, "--output", folder / "out", "--write", "overlay")[0] == 0
    for name in ("Thumbs.db", "data.csv"):
        (folder / name).write_text("nothing")
    status, text = run(
        bright_file, f"{folder}/**/*.*", "--output", tmp_path / "all", "--write", "csv"
    )
    assert status == 0
    assert [row["image"] for row in rows(tmp_path / "all/counts.csv")] == ["a.png"]
    assert "files that are no images, such as" in text
    assert "left out: 1 results of an earlier prediction among the images" in text
    status, text = run(bright_file, f"{folder}/*.csv", "--output", tmp_path / "other")
    assert (status, "data.csv" in text) == (1, True)


def test_swapped_arguments_are_told(run, bright_file, folder, tmp_path):
    for given in (
        [folder, "default"],
        [folder, bright_file],
        [tmp_path / "images/a.png", "default"],
    ):
        status, text = run(*given, "--output", tmp_path / "out")
        assert status == 2
        assert f"MODEL comes first, then IMAGES: predict {given[1]} {given[0]} --output" in text
        assert text.count("\n") == 1


def test_a_full_disk_is_named_with_its_file(run, bright_file, folder, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tifffile.imwrite", full)
    status, text = run(bright_file, folder, "--output", tmp_path / "out", "--write", "labels")
    assert status == 2
    assert "a_labels.tif: No space left on device" in text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("defualt", "defualt: there is no such file or folder; did you mean 'default'?"),
        ("runs/livecel", "did you mean 'runs/livecell'?"),
        ("soup", "soup: there is no such file or folder; give a run folder, a file or default"),
        ("runs/livecell/onnx", "model.onnx: ONNX is for other programs and not read here; give"),
        ("runs/livecell/onnx/model.onnx", "ONNX is for other programs"),
    ],
)
def test_models_that_are_none(model, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/livecell/onnx").mkdir(parents=True)
    (tmp_path / "runs/livecell/config.yaml").touch()
    (tmp_path / "runs/livecell/onnx/model.onnx").touch()
    demand_model("runs/livecell")
    demand_model("default")
    with pytest.raises(InputError) as refused:
        demand_model(model)
    assert message in str(refused.value)


def test_outputs_that_take_nothing(folder, tmp_path, monkeypatch):
    demand_output(str(tmp_path / "new/er"), [])
    for given in (folder / "a.png", folder / "a.png/out"):
        with pytest.raises(InputError, match=rf"--output {given}: .*a\.png is a file; give a"):
            demand_output(str(given), [])
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"--output .*new cannot be written: .* does not permit"):
        demand_output(str(tmp_path / "new"), [])


def test_mistakes_are_told_before_tensorflow_is_imported(folder):
    arguments = ["defualt", str(folder / "a.png"), "--output", str(folder / "out")]
    code = f"""
import sys
sys.argv = ["predict", *{arguments}]
from unet_keras import predict
try:
    predict.main()
except SystemExit as stop:
    assert stop.code == 2
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1
    assert "did you mean 'default'?" in done.stderr
