"""Outlines drawn in ImageJ: what predict wrote comes back, and what people draw is its pixels."""

import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask
from roifile import ROI_TYPE, ImagejRoi
from skimage.draw import polygon2mask

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.inference.writing import write_rois
from unet_keras.records.conversion import convert, read_source
from unet_keras.sources.imagej import read_outlines
from unet_keras.targets.labels import paint_labels

SIZE = (60, 80)


def decoded(outlines, size=SIZE):
    return [coco_mask.decode({"size": list(size), "counts": code}) > 0 for code in outlines]


def save(path, *rois):
    with zipfile.ZipFile(path, "w") as file:
        for number, roi in enumerate(rois):
            file.writestr(f"{number}.roi", roi.tobytes())
    return path


def drawn(kind, points, name=""):
    roi = ImagejRoi.frompoints(np.array(points), name=name or None)
    roi.roitype = kind
    return roi


@pytest.fixture
def labels(rng):
    """Cells of all shapes that touch each other, without holes, which no outline has."""
    points = rng.uniform(0, 1, (25, 2)) * SIZE
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return np.where(distance.min(-1) < 60, distance.argmin(-1) + 1, 0).astype(np.uint16)


def test_what_predict_wrote_comes_back(labels, tmp_path):
    write_rois(tmp_path / "a.zip", labels)
    masks = decoded(read_outlines(tmp_path / "a.zip", SIZE))
    numbers = np.unique(labels[labels > 0])
    assert len(masks) == len(numbers)
    for number, mask in zip(numbers, masks, strict=True):
        np.testing.assert_array_equal(mask, labels == number)


def test_outlines_at_the_edges_are_those_of_scikit_image(rng, tmp_path):
    for _ in range(20):
        points = rng.uniform((-3, -3), (SIZE[1] + 2, SIZE[0] + 2), (6, 2)).astype(np.float32)
        path = save(tmp_path / "a.zip", drawn(ROI_TYPE.FREEHAND, points))
        expected = polygon2mask(SIZE, points[:, ::-1].astype(np.float64) - 0.5)
        found = decoded(read_outlines(path, SIZE))
        np.testing.assert_array_equal(found[0] if found else np.zeros(SIZE, bool), expected)


def test_pieces_of_one_cell_stay_one(tmp_path):
    labels = np.zeros(SIZE, np.uint16)
    labels[5:20, 5:20] = labels[30:40, 50:70] = 1
    labels[20:30, 20:30] = 2
    write_rois(tmp_path / "a.zip", labels)
    masks = decoded(read_outlines(tmp_path / "a.zip", SIZE))
    np.testing.assert_array_equal(masks, [labels == 1, labels == 2])


@pytest.mark.parametrize(
    ("names", "cells"),
    [
        (["0012-0045", "0012-0046", "0012-0046", ""], 4),
        (["0012", "0012-0045", "0013", "0013-0012"], 4),  # beside `predict`'s of 1,000 cells
        (["0012-0045", "0012-0045-1", "12", "12-1"], 4),  # copies
        (["cell", "cell-1", "cell-2", "cell-3"], 4),
        (["12", "12-2", "12-3", "13"], 2),
        (["12", "12-3", "13", "13-12"], 2),  # a piece was deleted
    ],
)
def test_names_that_imagej_and_people_give_are_no_pieces(names, cells, tmp_path):
    """ImageJ names a ROI by its middle: 0012-0045. Names may be equal, too."""
    square = [[2, 2], [9, 2], [9, 9], [2, 9]]
    named = [
        drawn(ROI_TYPE.POLYGON, np.array(square) + 12 * k, name) for k, name in enumerate(names)
    ]
    masks = decoded(read_outlines(save(tmp_path / "a.zip", *named), SIZE))
    assert len(masks) == cells
    assert sum(mask.sum() for mask in masks) == 4 * 49


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_corners_enclose_the_pixels_between_them(kind, tmp_path):
    """ImageJ counts from the corner of the first pixel: 2 to 9 are seven pixels."""
    roi = drawn(kind, [[2, 3], [9, 3], [9, 13], [2, 13]])
    (mask,) = decoded(read_outlines(save(tmp_path / "a.zip", roi), SIZE))
    expected = np.zeros(SIZE, bool)
    expected[3:13, 2:9] = True
    np.testing.assert_array_equal(mask, expected)
    (tmp_path / "a.roi").write_bytes(roi.tobytes())
    np.testing.assert_array_equal(decoded(read_outlines(tmp_path / "a.roi", SIZE))[0], expected)


@pytest.mark.parametrize("kind", [ROI_TYPE.RECT, ROI_TYPE.OVAL])
def test_boxes_and_ellipses(kind, tmp_path):
    roi = ImagejRoi()
    roi.roitype, roi.version = kind, 227
    roi.left, roi.top, roi.right, roi.bottom = 10, 20, 50, 44
    (mask,) = decoded(read_outlines(save(tmp_path / "a.zip", roi), SIZE))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    if kind == ROI_TYPE.RECT:
        expected = (x > 10) & (x < 50) & (y > 20) & (y < 44)
        np.testing.assert_array_equal(mask, expected)
    else:
        expected = ((x - 30) / 20) ** 2 + ((y - 32) / 12) ** 2 < 1
        assert (mask ^ expected).sum() < 0.03 * expected.sum()


def test_paths_within_paths_are_holes(tmp_path):
    roi = ImagejRoi()
    roi.roitype, roi.version = ROI_TYPE.RECT, 227
    roi.left, roi.top, roi.right, roi.bottom = 10, 10, 40, 40
    corners = [[10, 10, 40, 40], [20, 20, 30, 30]]
    path = []
    for left, top, right, bottom in corners:
        path += [0, left, top, 1, right, top, 1, right, bottom, 1, left, bottom, 4]
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    (mask,) = decoded(read_outlines(save(tmp_path / "a.zip", roi), SIZE))
    expected = np.zeros(SIZE, bool)
    expected[10:40, 10:40] = True
    expected[20:30, 20:30] = False
    np.testing.assert_array_equal(mask, expected)


def test_outlines_without_a_pixel_are_left_out_and_edges_may_be_crossed(tmp_path):
    tiny = drawn(ROI_TYPE.FREEHAND, [[5.1, 5.1], [5.2, 5.1], [5.2, 5.2]])
    crossing = drawn(ROI_TYPE.FREEHAND, [[70, 50], [81, 50], [81, 61], [70, 61]])
    (mask,) = decoded(read_outlines(save(tmp_path / "a.zip", tiny, crossing), SIZE))
    assert mask.sum() == 100
    assert mask[50:, 70:].all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "cannot be read as outlines of ImageJ"),
        (b"Iout" + bytes(10), "cannot be read as outlines of ImageJ"),
        ("point", "spot is a point, which encloses no cell; delete it"),
        ("line", "spot is a line, which encloses no cell"),
        ("elsewhere", "spot reaches to x = 200, y = 9, beyond its image of 80 x 60"),
    ],
)
def test_what_is_no_outline_is_refused(content, message, tmp_path):
    path = tmp_path / "a.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "elsewhere":
        save(path, drawn(ROI_TYPE.POLYGON, [[190, 2], [200, 2], [200, 9]], "spot"))
    else:
        kind = ROI_TYPE.POINT if content == "point" else ROI_TYPE.LINE
        save(path, drawn(kind, [[3, 4], [5, 9]], "spot"))
    with pytest.raises(InputError, match=r"a\.zip") as error:
        read_outlines(path, SIZE)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


class TestFolders:
    """Results of a prediction, corrected in ImageJ, as masks."""

    @pytest.fixture
    def folder(self, labels, rng, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "results").mkdir()
        for name in ("a", "b", "c"):
            image = rng.integers(0, 255, SIZE).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
            write_rois(tmp_path / "results" / f"{name}_rois.zip", labels)
        return tmp_path

    def config(self, folder, *more):
        places = [f"source.images={folder}/images", f"source.annotations={folder}/results"]
        return load(
            overrides=[
                "source.kind=folders", *places, f"records.path={folder}/records",
                "records.workers=1", "source.fractions=[1,0,0]", *more,
            ]
        )  # fmt: skip

    def test_outlines_alone_are_taken_by_themselves(self, folder, labels):
        for reference in read_source(self.config(folder)):
            painted = paint_labels(reference.load().outlines, SIZE)
            np.testing.assert_array_equal(painted > 0, labels > 0)
        assert convert(self.config(folder)).splits["train"].instances == 3 * len(
            np.unique(labels[labels > 0])
        )

    def test_beside_other_results_they_are_asked_for(self, folder, labels):
        for name in ("a", "b", "c"):
            tifffile.imwrite(folder / "results" / f"{name}_labels.tif", labels * 0)
            Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "results" / f"{name}_mask.png")
        (first, *_) = read_source(self.config(folder, "source.mask_kind=rois"))
        assert len(first.load().outlines) == len(np.unique(labels[labels > 0]))

    def test_they_are_pointed_at_where_there_are_no_masks(self, folder, rng):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "results" / "a_overlay.png")
        with pytest.raises(InputError, match=r"outlines of ImageJ: source\.mask_kind=rois"):
            convert(self.config(folder))

    def test_changed_outlines_are_told(self, folder, labels, caplog):
        from unet_keras.records.origin import changed_files

        config = self.config(folder)
        convert(config)
        assert changed_files(folder / "records", config.source) == ""
        write_rois(folder / "results" / "b_rois.zip", np.where(labels > 9, 0, labels))
        changed = changed_files(folder / "records", config.source)
        assert "1 file changed" in changed
        assert "b_rois.zip" in changed

    def test_an_image_without_outlines_and_stacks_are_refused(self, folder, rng):
        (folder / "results" / "c_rois.zip").unlink()
        with pytest.raises(InputError, match=r"1 of 3 images .* have no mask"):
            convert(self.config(folder))
        (folder / "images" / "c.png").unlink()
        stack = rng.integers(0, 255, (3, *SIZE)).astype(np.uint8)
        tifffile.imwrite(folder / "images" / "b.tif", stack, photometric="minisblack")
        (folder / "images" / "b.png").unlink()
        with pytest.raises(InputError, match=r"b\.tif has 3 pages, its mask .*b_rois\.zip has 1"):
            convert(self.config(folder))
