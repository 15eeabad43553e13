"""The command from a config to records, report and masks."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.records.test_writer import content
from tests.sources.coco_files import SIZE, annotation, coco, image, square, write
from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.records.conversion import convert
from unet_keras.records.manifest import verify


def config(folder, *overrides):
    folders = [f"source.images={folder}/images", f"source.annotations={folder}/annotations"]
    common = ["source.kind=coco", f"records.path={folder}/records", "records.workers=1"]
    return load(overrides=[*folders, *common, *overrides])


@pytest.fixture
def dirty(tmp_path):
    """A leak, a crowd, and an instance that two smaller ones cover."""
    halves = [[[5, 5, 7, 5, 7, 9, 5, 9]], [[7, 5, 9, 5, 9, 9, 7, 9]]]
    covered = [annotation(k, 1, outline) for k, outline in enumerate([square(5, 5), *halves], 10)]
    crowd = annotation(20, 1, square(1, 1), iscrowd=1)
    train = coco([image(1, "A172_1.png"), image(2, "A172_2.png")], [*covered, crowd])
    val = coco([image(2, "A172_2.png")], [annotation(30, 2, square(10, 10))])
    write(tmp_path, train=train, val=val, images=["A172_1.png"])
    write(tmp_path, images=["A172_2.png"])
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "A172_2.png")
    return tmp_path


def test_what_is_odd_is_said_and_reported(dirty, caplog):
    with caplog.at_level(logging.INFO):
        convert(config(dirty))
    vanished = [line for line in caplog.messages if "vanish" in line]
    assert len(vanished) == 1
    assert vanished[0].endswith(
        "1 instance vanished under others (targets.overlap=smallest), by image and number: "
        "A172_1.png: 1"
    )
    report = json.loads((dirty / "records" / "report.json").read_text())
    assert report["source"]["crowds"] == 1
    assert report["source"]["leaked_images"] == {"A172_2.png": ["train", "val"]}
    assert [remark for remark in report["remarks"] if "image in several splits" in remark]
    assert report["identical_images"][0][0]["split"] == "train"
    assert report["overlaps"]["vanished"][0]["numbers"] == [1]
    page = (dirty / "records" / "report.html").read_text()
    for remark in report["remarks"]:
        assert remark in page
        assert sum(remark in message for message in caplog.messages) == 1


def test_instances_without_a_pixel_are_counted_by_image(tmp_path, caplog):
    thin = [annotation(k, 1, [[5.1, 5.1, 5.2, 5.1, 5.1, 5.2 + k / 100]]) for k in (1, 2)]
    listed = [*thin, annotation(3, 1, square(5, 5)), annotation(4, 2, square(5, 5))]
    train = coco([image(1, "A172_1.png"), image(2, "A172_2.png")], listed)
    write(tmp_path, train=train, images=["A172_1.png", "A172_2.png"])
    manifest = convert(config(tmp_path))
    assert manifest.overlaps.without_pixels == 2
    remark = "2 annotated instances without a pixel of the image, left out, by image: A172_1.png: 2"
    assert any(line.endswith(remark) for line in caplog.messages)
    report = json.loads((tmp_path / "records" / "report.json").read_text())
    assert remark in report["remarks"]
    assert [one["without_pixels"] for one in report["images"]] == [2, 0]


def test_exchanged_axes_are_suspected_where_most_instances_lie_outside(tmp_path, caplog):
    height = SIZE[0]  # the picture is wider than high
    outside = [annotation(k, 7, square(5, height + k)) for k in (1, 2, 3)]
    listed = [*outside, annotation(4, 7, square(5, 5)), annotation(5, 8, square(5, height + 1))]
    listed += [annotation(6, 8, square(5, 5))]
    train = coco([image(7, "A172_1.png"), image(8, "A172_2.png")], listed)
    write(tmp_path, train=train, images=["A172_1.png", "A172_2.png"])
    convert(config(tmp_path))
    (told,) = [line for line in caplog.messages if "x and y may be exchanged" in line]
    assert "1 image with most annotated instances outside" in told
    assert told.endswith("A172_1.png (id 7) has 3 of 4")


def test_a_bar_shows_the_progress_where_somebody_looks(dirty, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    convert(config(dirty), masks=dirty / "png")
    bars = [bar for bar in capsys.readouterr().err.split("\n") if bar]
    assert len(bars) == 2  # of the records and of the masks
    for bar in bars:
        assert "| 3/3 [" in bar.split("\r")[-1]
        assert bar.endswith(("image/s]", "s/image]"))


def test_a_second_run_says_the_same_and_changes_nothing(dirty, caplog):
    convert(config(dirty))
    before = content(dirty / "records")
    (dirty / "records" / "report.html").unlink()
    with caplog.at_level(logging.INFO):
        convert(config(dirty))
    assert content(dirty / "records") == before
    assert any("vanish" in line for line in caplog.messages)
    assert any("holds these records already" in line for line in caplog.messages)


def test_the_report_does_not_touch_what_is_recorded(dirty, tmp_path):
    convert(config(dirty))
    with_report = content(dirty / "records")
    (dirty / "records" / "manifest.json").unlink()  # converted anew, onto an old report
    convert(config(dirty))
    assert content(dirty / "records") == with_report
    assert verify(dirty / "records") == []


def test_masks_are_written_beside_records(dirty):
    convert(config(dirty), masks=dirty / "png")
    assert sorted(content(dirty / "png")) == [
        "images/train/A172_1.png",
        "images/train/A172_2.png",
        "images/val/A172_2.png",
        "masks/train/A172_1.png",
        "masks/train/A172_2.png",
        "masks/val/A172_2.png",
    ]
    before = content(dirty / "png")
    convert(config(dirty), masks=dirty / "png")  # the records are there already
    assert content(dirty / "png") == before
    with pytest.raises(InputError, match="is not of these images"):
        convert(config(dirty, "source.on_leak=drop"), masks=dirty / "png")
    manifest = json.loads((dirty / "records" / "manifest.json").read_text())
    assert manifest["configuration"]["on_leak"] == "warn"  # refused before anything was written


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/below"])
def test_masks_without_a_folder_are_refused_before_anything_is_converted(place, dirty):
    (dirty / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"--write-masks .*notes\.txt.* give another folder"):
        convert(config(dirty), masks=dirty / place)
    assert not (dirty / "records").exists()


def test_masks_never_replace_their_own_source(tmp_path):
    for name in ("images/train", "masks/train"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (20, 10), (3, 3, 3)).save(tmp_path / name / "a.png")
    (tmp_path / "masks" / "notes.txt").write_text("mine")
    before = content(tmp_path)
    folders = [f"source.images={tmp_path}/images", f"source.annotations={tmp_path}/masks"]
    kind = ["source.kind=folders", "source.mask_kind=labels", f"records.path={tmp_path}/records"]
    with pytest.raises(InputError, match=r"source\.images=.*images is read from there"):
        convert(load(overrides=[*folders, *kind]), masks=tmp_path)
    assert content(tmp_path) == before


def test_classes_that_are_named_count_though_none_is_there(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (20, 10), 2).save(tmp_path / name / "a.png")
    folders = [f"source.images={tmp_path}/images", f"source.annotations={tmp_path}/masks"]
    manifest = convert(
        load(
            overrides=[
                *folders,
                "source.kind=folders",
                "source.mask_kind=classes",
                "source.class_values=[1, 2, 3]",
                "source.fractions=[1, 0, 0]",
                f"records.path={tmp_path}/records",
            ]
        )
    )
    assert manifest.num_classes == 3
    assert manifest.class_frequencies == (0, 0, 1, 0)


def test_classes_that_separation_erases_count_and_are_told(tmp_path, caplog):
    """Lines of one pixel touch other instances on both sides."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[5:35, 5:55] = 1
    mask[20, 5:55] = mask[5:35, 30] = 2
    for name, pixels in (("images", mask * 90), ("masks", mask)):
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
        Image.fromarray(np.roll(pixels > 0, 3) * np.uint8(1)).save(tmp_path / name / "b.png")
    given = [
        f"source.images={tmp_path}/images", f"source.annotations={tmp_path}/masks",
        "source.kind=folders", "source.mask_kind=classes", "source.fractions=[1, 0, 0]",
    ]  # fmt: skip
    manifest = convert(load(overrides=[*given, f"records.path={tmp_path}/records"]))
    assert manifest.num_classes == 2
    assert manifest.class_frequencies[2] < 0.001
    assert "class 1 loses" not in caplog.text
    assert "class 2 loses 99% of its pixels where it touches other" in caplog.text
    assert "class 2 loses 99%" in (tmp_path / "records" / "report.html").read_text()
    caplog.clear()
    whole = [f"records.path={tmp_path}/whole", "targets.separate_touching=false"]
    manifest = convert(load(overrides=[*given, *whole]))
    assert manifest.class_frequencies[2] == pytest.approx((mask == 2).mean() / 2)
    assert "loses" not in caplog.text


def test_the_command_writes_masks(dirty, monkeypatch, capsys):
    from unet_keras import make_records

    monkeypatch.chdir(dirty)
    arguments = ["source.kind=coco", "source.images=images", "source.annotations=annotations"]
    arguments += ["records.path=r", "--write-masks", "png"]
    monkeypatch.setattr("sys.argv", ["make_records", *arguments])
    with pytest.raises(SystemExit) as stop:
        make_records.main()
    assert stop.value.code == 0
    assert capsys.readouterr().err == ""  # no bar where nobody looks
    assert len(content(Path("png"))) == 6
