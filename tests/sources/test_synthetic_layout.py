"""Synthetic cells written to disk as LIVECell is: names, JSON, and nothing half-written."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from unet_keras.errors import InputError
from unet_keras.sources import synthetic
from unet_keras.sources.synthetic import synthetic_references, write_livecell_layout

SMALL = (160, 192)
SMALL_COUNTS = {"train": 5, "val": 2, "test": 1}
LIVECELL_NAME = re.compile(r"[A-Za-z0-9]+_Phase_[A-H]\d{1,2}_\d_\d{2}d\d{2}h\d{2}m_\d\.tif")
THRESHOLDS = np.arange(0.5, 1, 0.05)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic") / "data"
    write_livecell_layout(directory, SMALL_COUNTS, seed=3, size=SMALL)
    return directory


def test_layout_is_livecells(layout):
    images = sorted(path.relative_to(layout) for path in layout.rglob("*.tif"))
    folders = [path.parent.name for path in images]
    assert folders == ["livecell_test_images"] + ["livecell_train_val_images"] * 7
    assert {path.name for path in (layout / "annotations").iterdir()} == {
        f"livecell_coco_{split}.json" for split in SMALL_COUNTS
    }
    for path in images:
        with Image.open(layout / path) as image:
            assert image.mode == "L"
            assert image.size == (192, 160)
            assert image.info["compression"] == "tiff_lzw"


@pytest.mark.parametrize("split", SMALL_COUNTS)
def test_json_has_the_entries_of_the_real_one(layout, split):
    content = json.loads((layout / "annotations" / f"livecell_coco_{split}.json").read_text())
    assert list(content) == ["info", "licenses", "categories", "images", "annotations"]
    assert content["categories"] == [{"supercategory": "cell", "id": 1, "name": "cell"}]
    assert set(content["info"]) == {
        *("year", "version", "description", "contributor", "url", "date_created")
    }
    assert len(content["images"]) == SMALL_COUNTS[split]
    for entry in content["images"]:
        assert list(entry) == ["id", "width", "height", "file_name", "original_filename", "url"]
        assert (entry["width"], entry["height"]) == (192, 160)
    for entry in content["annotations"]:
        assert list(entry) == [
            *("id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd")
        ]
        (polygon,) = entry["segmentation"]
        assert polygon == [round(value, 2) for value in polygon]
        x, y = np.reshape(polygon, (-1, 2)).T
        assert 0 <= x.min() <= x.max() <= 192
        assert 0 <= y.min() <= y.max() <= 160
        assert entry["bbox"] == pytest.approx([x.min(), y.min(), np.ptp(x), np.ptp(y)])


def test_ids_are_unique_with_gaps(layout):
    ids = []
    for split in SMALL_COUNTS:
        content = json.loads((layout / "annotations" / f"livecell_coco_{split}.json").read_text())
        ids += [entry["id"] for entry in content["images"] + content["annotations"]]
    assert len(set(ids)) == len(ids)
    assert np.diff(sorted(ids)).max() > 100


def test_pycocotools_finds_exactly_the_outlines_in_memory(layout, capsys):
    references = synthetic_references(SMALL_COUNTS, seed=3, size=SMALL)
    for split in SMALL_COUNTS:
        coco = COCO(layout / "annotations" / f"livecell_coco_{split}.json")
        entries = {entry["file_name"]: entry["id"] for entry in coco.dataset["images"]}
        for reference in (r for r in references if r.split == split):
            sample = reference.load()
            cells = coco.imgToAnns[entries[reference.file_name]]
            written = tuple(coco.annToRLE(cell)["counts"] for cell in cells)
            assert written == sample.outlines
            pixels = np.array(
                [coco_mask.area({"size": SMALL, "counts": counts}) for counts in written]
            )
            areas = np.array([cell["area"] for cell in cells])
            assert np.abs(pixels / areas - 1).mean() < 0.05
            (path,) = layout.glob(f"images/*/{reference.file_name}")
            assert np.array_equal(np.asarray(Image.open(path)), sample.image)
    capsys.readouterr()


def test_second_call_leaves_the_same_data_set_alone(layout):
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    write_livecell_layout(layout, SMALL_COUNTS, seed=3, size=SMALL)
    assert {path: path.stat().st_mtime_ns for path in layout.rglob("*")} == before


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"size": (160, 200)}, {"counts": {"train": 5, "val": 2}}]
)
def test_another_data_set_is_not_overwritten(layout, change):
    arguments = {"counts": SMALL_COUNTS, "seed": 3, "size": SMALL, **change}
    with pytest.raises(InputError, match="exists with other content"):
        write_livecell_layout(layout, **arguments)


def test_a_folder_with_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"data exists with other content"):
        write_livecell_layout(tmp_path / "data", {"train": 1}, size=(32, 32))
    with pytest.raises(InputError, match=r"thesis.tex exists with other content"):
        write_livecell_layout(tmp_path / "data" / "thesis.tex", {"train": 1}, size=(32, 32))
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "thesis.tex"]


def test_an_empty_folder_is_filled(tmp_path):
    write_livecell_layout(tmp_path, {"test": 1}, size=(32, 32))
    assert len(list(tmp_path.glob("images/livecell_test_images/*.tif"))) == 1


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(synthetic, "draw_picture", fail)
    with pytest.raises(OSError, match="disk full"):
        write_livecell_layout(tmp_path / "data", {"train": 1}, size=(32, 32))
    assert list(tmp_path.iterdir()) == []
