"""The data report says what is in the records, comes after them and is made again if missing."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.records.examples import drawn
from tests.records.test_killing import Executioner, KilledError
from tests.records.test_writer import content
from unet_keras.errors import InputError
from unet_keras.records import report
from unet_keras.records.build import TargetSettings
from unet_keras.records.figures import ImageFigures
from unet_keras.records.manifest import read_manifest, verify
from unet_keras.records.overview import overview
from unet_keras.records.report import draw_targets, keep_report, usual_images
from unet_keras.records.strips import instance_strips
from unet_keras.records.writer import write_records

COUNTS = {"train": 5, "val": 2}


def converted(path, references):
    return write_records(references, path, workers=1, configuration={"kind": "drawn"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "records"
    references = drawn(COUNTS)
    manifest = converted(path, references)
    before = content(path)
    found = keep_report(path, manifest, references)
    return path, references, manifest, before, found


def figures(name, instances, **named):
    values = {
        "image_id": name,
        "file_name": f"{name}.png",
        "split": "train",
        "group": "A",
        "height": 10,
        "width": 20,
        "pixels_digest": name,
        "instances": instances,
        "labeled_pixels": 10 * instances,
        "touching_instances": instances // 2,
        "accuracy_connected": 0.25,
        "accuracy_separated": 0.75,
    }
    return ImageFigures(**{**values, **named})


def test_records_stay_as_they_were(made):
    path, _, _, before, _ = made
    after = content(path)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"report.html", "report.json"}
    assert verify(path) == []


def test_its_numbers_are_the_manifests(made):
    path, _, manifest, _, found = made
    assert json.loads((path / "report.json").read_text()) == found
    total = found["total"]
    assert set(total) == {"all", "train", "val"}
    for name in ("train", "val"):
        split = manifest.splits[name]
        assert total[name]["images"] == split.images
        assert total[name]["instances"] == split.instances
        assert total[name]["pixels"] == split.pixels
        for group, counted in split.groups.items():
            cell = found["groups"][group][name]
            assert (cell["images"], cell["instances"]) == (counted.images, counted.instances)
            assert cell["labeled_pixels"] == counted.labeled_pixels
    assert total["all"]["touching_instances"] == manifest.overlaps.touching_instances
    assert found["overlaps"]["rule"] == "smallest"
    assert found["overlaps"]["cut_instances"] == manifest.overlaps.cut_instances
    assert [one["file_name"] for one in found["images"]] == [r.file_name for r in made[1]]


def test_a_report_that_is_there_is_left_and_a_missing_one_made_again(made, tmp_path, monkeypatch):
    shutil.copytree(made[0], tmp_path / "records")
    path, references, manifest = tmp_path / "records", made[1], made[2]
    whole = content(path)
    with monkeypatch.context() as patch:
        patch.setattr(report, "render_report", lambda *_: pytest.fail("was made again"))
        assert keep_report(path, manifest, references) == made[4]
    for lost in (["report.html"], ["report.json"], ["report.html", "report.json"]):
        for name in lost:
            (path / name).unlink()
        keep_report(path, manifest, references)
        assert content(path) == whole
    (path / "report.json").write_text("{")
    keep_report(path, manifest, references)
    assert content(path) == whole


def test_a_report_never_stands_beside_other_records(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "records")
    converted(tmp_path / "records", drawn({"train": 2}))
    assert not {"report.html", "report.json"} & set(content(tmp_path / "records"))
    found = keep_report(
        tmp_path / "records", read_manifest(tmp_path / "records"), drawn({"train": 2})
    )
    assert found["total"]["all"]["images"] == 2


def test_a_full_disk_leaves_the_records_and_no_half_report(tmp_path):
    resource = pytest.importorskip("resource")
    references = drawn({"train": 2})
    manifest = converted(tmp_path / "records", references)
    before = content(tmp_path / "records")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written to"):
            keep_report(tmp_path / "records", manifest, references)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = {n: d for n, d in content(tmp_path / "records").items() if "/" not in n}
    assert after == before
    keep_report(tmp_path / "records", manifest, references)
    assert (tmp_path / "records" / "report.html").is_file()
    assert not (tmp_path / "records" / ".conversion").exists()


def test_stopped_at_every_change_of_a_file(made, tmp_path):
    """A report that stops after 0, 1, 2, ... changes of the file system, and one that follows."""
    _, references, manifest, before, _ = made
    whole = content(made[0])
    for allowed in range(100):
        path = tmp_path / str(allowed) / made[0].name
        write_all(path, before)
        with pytest.MonkeyPatch.context() as patch:
            Executioner(patch, allowed)
            try:
                keep_report(path, manifest, references)
                finished = True
            except KilledError:
                finished = False
        after = content(path)
        assert before.items() <= after.items()
        assert "report.html" not in after or {**after, **whole} == after
        keep_report(path, manifest, references)
        assert {n: d for n, d in content(path).items() if "/" not in n} == whole
        if finished:
            break
    assert 4 < allowed < 40


def write_all(path, files):
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)


class Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its elements are closed."""

    VOID = ("meta", "img", "line", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.links, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_loads_nothing(made):
    text = (made[0] / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/webp;base64,") for link in page.links)
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    words = " ".join(" ".join(page.words).split())
    for expected in ("Data of records", " = 5 pixels", "Nothing irregular was found", "A_0.png"):
        assert expected in words


def test_names_from_the_data_are_escaped(tmp_path):
    (reference,) = drawn({"train": 1})
    nasty = type(reference)(
        **{**vars(reference), "group": "<b>x</b>", "file_name": "<script>alert(1)</script>"}
    )
    manifest = converted(tmp_path / "records", [nasty])
    keep_report(tmp_path / "records", manifest, [nasty], remarks=["<i>remark</i>"])
    text = (tmp_path / "records" / "report.html").read_text()
    for raw in ("<script>", "<b>x", "<i>remark"):
        assert raw not in text
    assert "&lt;script&gt;" in text


def test_images_with_very_few_instances_are_suspicious(made):
    usual = [figures(f"u{k}", 100 + k) for k in range(6)]
    few, none = figures("few", 9), figures("none", 0, group="B", accuracy_connected=1.0)
    alone = [figures("c1", 500, group="C"), figures("c2", 3, group="C")]  # two show no type
    found = overview(made[2], [*usual, few, none, *alone])
    assert [one["file_name"] for one in found["suspicious_images"]] == ["few.png", "none.png"]
    assert found["suspicious_images"][0]["median_of_group"] == 102
    assert found["remarks"] == [
        "2 images with very few instances beside the median of their type: few.png has 9 (A: "
        "102); none.png has 0 (B: 0)"
    ]
    assert found["groups"]["B"]["all"]["accuracy_connected"] is None
    assert found["groups"]["A"]["all"]["accuracy_connected"] == 0.25


def test_copies_are_found_and_leaks_among_them_counted(made):
    some = [
        figures("a", 5, pixels_digest="x"),
        figures("b", 5, pixels_digest="x", split="val"),
        figures("c", 5, pixels_digest="y"),
        figures("d", 5, pixels_digest="y"),
        figures("e", 5),
    ]
    found = overview(made[2], some, remarks=["from the source"], notes={"crowds": 2})
    assert [[one["file_name"] for one in same] for same in found["identical_images"]] == [
        ["a.png", "b.png"],
        ["c.png", "d.png"],
    ]
    assert found["remarks"] == [
        "from the source",
        "2 images found several times, pixel by pixel, 1 of them in several splits: a.png "
        "(train) = b.png (val); c.png (train) = d.png (train)",
    ]
    assert found["source"] == {"crowds": 2}


def test_copies_among_the_pages_of_a_stack_are_told_by_their_pages(made):
    pages = [
        figures(f"in/z-{k}", 5, file_name="z.tif", pixels_digest="x", split=split)
        for k, split in ((0, "train"), (7, "test"))
    ]
    (remark,) = overview(made[2], pages)["remarks"]
    assert remark.endswith("1 of them in several splits: in/z-0 (train) = in/z-7 (test)")


def test_training_images_without_instances_are_told(made):
    some = [figures("a", 0), figures("b", 0), figures("c", 1, split="test")]
    remarks = overview(made[2], some)["remarks"]
    assert remarks[-1].startswith("no instance in any of 2 training images")


def test_vanished_instances_are_named(tmp_path):
    (reference,) = drawn({"train": 1})
    sample = reference.load()

    class Twice(type(reference)):
        def load(self):
            outlines = (sample.outlines[0], *sample.outlines)
            classes = np.ones(len(outlines), np.uint8)
            return type(sample)(**{**vars(sample), "outlines": outlines, "classes": classes})

    twice = [Twice(**vars(reference))]
    manifest = write_records(twice, tmp_path / "records", workers=1, overlap="last")
    found = keep_report(tmp_path / "records", manifest, twice)
    assert found["overlaps"]["vanished"] == [
        {
            "image_id": "0",
            "file_name": "A_0.png",
            "split": "train",
            "group": "A",
            "numbers": list(manifest.overlaps.vanished["0"]),
        }
    ]
    assert found["remarks"][0].startswith("1 instance vanished under others (targets.overlap=last)")
    assert found["remarks"][0].endswith("A_0.png: 1")
    assert "Vanished instances" in (tmp_path / "records" / "report.html").read_text()


def test_usual_images_are_the_middle_ones_of_each_group():
    some = [figures(f"{group}{k}", k, group=group) for group in "ABC" for k in range(9)]
    chosen = usual_images(some, 8)
    assert [(one.group, one.instances) for one in chosen] == [("A", 4), ("B", 4), ("C", 4)]
    assert [one.instances for one in usual_images(some[:9], 8)] == [1, 3, 5, 7]
    assert len(usual_images(some, 2)) == 2
    assert len(usual_images(some[:1], 8)) == 1


def test_targets_are_drawn_over_the_image():
    (reference,) = drawn({"train": 1}, size=(1000, 40), classes=3)
    pictures = draw_targets(reference, TargetSettings())
    assert list(pictures) == ["Instances", "Foreground and border weights"]
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape == (704, 28, 3)
    with_nothing = draw_targets(drawn({"train": 1}, dtype="float32")[0], TargetSettings(maps=()))
    assert (np.ptp(with_nothing["Foreground and border weights"], axis=-1) > 0).any()


def test_strips_show_every_image_once():
    counts = [0, 1, 9, 9, 700, 123_456]
    svg = instance_strips([figures(str(k), count) for k, count in enumerate(counts)])
    shown = [int(number) for number in re.findall(r": (\d+) images", svg)]
    assert sum(shown) == len(counts)
    assert "&lt;x&gt;" in instance_strips([figures("0", 0, group="<x>")])
