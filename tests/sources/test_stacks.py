"""Stacks are read page by page, each by itself; what a file holds beyond its pages is told."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tests.sources.test_folders import decoded
from tests.sources.test_images import values
from unet_keras.errors import InputError
from unet_keras.inference.pictures import find_pictures
from unet_keras.inference.writing import write_labels, write_rois
from unet_keras.sources.folders import folder_references
from unet_keras.sources.images import page_count, read_image


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_stacks_are_read_by_page(dtype, rng, tmp_path):
    stack = values(rng, dtype, (3, 13, 17))
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    assert page_count(tmp_path / "s.tif") == 3
    for page in range(3):
        np.testing.assert_array_equal(read_image(tmp_path / "s.tif", page=page), stack[page])
    with pytest.raises(InputError, match=r"s\.tif is a stack of 3 pages where one image"):
        read_image(tmp_path / "s.tif")
    with pytest.raises(InputError, match=r"s\.tif has 3 pages; there is no page 3"):
        read_image(tmp_path / "s.tif", page=3)


def test_a_page_is_read_without_those_before_it(rng, tmp_path, monkeypatch):
    """Pillow would go through them for each page: a film of 3,000 would take a quarter hour."""
    for dtype, compression in (("uint8", None), ("uint16", "zlib"), ("float32", None)):
        stack = values(rng, dtype, (4, 13, 17))
        tifffile.imwrite(
            tmp_path / "a.tif", stack, photometric="minisblack", compression=compression
        )
        with monkeypatch.context() as patch:
            patch.setattr(TiffImageFile, "seek", None)
            np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=3), stack[3])
    colors = rng.integers(0, 255, (2, 13, 17, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=1), colors[1])


def test_images_that_fiji_does_not_list_are_told(rng, tmp_path):
    """Above 4 GB it lists the first one only, as `truncate` does here."""
    path, stack = tmp_path / "a.tif", values(rng, "uint16", (12, 40, 50))
    tifffile.imwrite(path, stack, imagej=True, truncate=True)
    for read in (page_count, read_image):
        with pytest.raises(InputError, match=r"a\.tif holds 12 images but lists 1 of them"):
            read(path)
    # a single image with the description of the stack that it was taken from
    with tifffile.TiffFile(path) as file:
        described = file.pages[0].description
    tifffile.imwrite(path, stack[0], description=described, metadata=None)
    np.testing.assert_array_equal(read_image(path), stack[0])


@pytest.mark.parametrize(("kind", "ending"), [("labels", "labels.tif"), ("rois", "rois.zip")])
@pytest.mark.parametrize("alone", [True, False])
def test_pages_may_have_masks_of_their_own(kind, ending, alone, rng, tmp_path, caplog):
    """As `predict` writes them, of which a few were corrected: the others are left out."""
    stack = values(rng, "uint8", (12, 13, 17))
    tifffile.imwrite(tmp_path / "film.tif", stack, photometric="minisblack")
    masks = tmp_path / "masks"
    masks.mkdir()
    drawn = {}
    for page in (3, 11):
        labels = np.zeros((13, 17), np.uint16)
        labels[2:5, 1:page], labels[7:10, 4:9] = 1, 2
        write = write_labels if kind == "labels" else write_rois
        write(masks / f"film-{page:02d}_{ending}", labels)
        drawn[page] = labels
    images = tmp_path / "film.tif"
    if not alone:
        images = tmp_path / "images"
        images.mkdir()
        (tmp_path / "film.tif").rename(images / "film.tif")
    references = folder_references(images, masks, kind=kind, fractions=(1, 0, 0))
    assert [(r.image_id, r.page) for r in references] == [("film-3", 3), ("film-11", 11)]
    for reference in references:
        sample = reference.load()
        np.testing.assert_array_equal(sample.image, stack[reference.page])
        expected = drawn[reference.page]
        found = decoded(sample)
        np.testing.assert_array_equal(np.max(found, axis=0), expected > 0)
        assert sorted(one.sum() for one in found) == sorted(np.bincount(expected.ravel())[1:])
    assert "film.tif: 10 of 12 pages have no mask, left out" in caplog.text


def test_one_page_may_be_the_only_one_with_a_mask(rng, tmp_path):
    stack = values(rng, "uint8", (4, 13, 17))
    tifffile.imwrite(tmp_path / "film.tif", stack, photometric="minisblack")
    labels = np.zeros((13, 17), np.uint16)
    labels[2:5, 1:9] = 1
    (tmp_path / "masks").mkdir()
    write_labels(tmp_path / "masks" / "film-2.tif", labels)
    arguments = (tmp_path / "film.tif", tmp_path / "masks")
    (reference,) = folder_references(*arguments, kind="labels", fractions=(1, 0, 0))
    assert reference.page == 2
    (tmp_path / "masks" / "film-2.tif").rename(tmp_path / "masks" / "another.tif")
    with pytest.raises(InputError, match=r"has 4 pages, its mask .*another\.tif has 1; .*film-0_"):
        folder_references(*arguments, kind="labels", fractions=(1, 0, 0))


def test_a_predictor_that_tifffile_does_not_know(rng, tmp_path):
    """Pillow undoes that of fractions; tifffile needs another package for it."""
    pages = [Image.fromarray(rng.random((13, 17)).astype(np.float32)) for _ in range(2)]
    path = tmp_path / "film.tif"
    packed = {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 3}}
    pages[0].save(path, save_all=True, append_images=pages[1:], **packed)
    for page, expected in enumerate(pages):
        np.testing.assert_array_equal(read_image(path, page=page), np.asarray(expected))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_smaller_copies_of_a_pyramid_are_no_pages(compression, rng, tmp_path):
    image, path = values(rng, "uint8", (64, 80)), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            smaller = image[:: 2**level, :: 2**level]
            file.write(smaller, subfiletype=int(level > 0), compression=compression)
    assert page_count(path) == 1
    np.testing.assert_array_equal(read_image(path), image)
    (picture,) = find_pictures([str(path)])
    assert (picture.name, picture.page) == ("a", None)
    np.testing.assert_array_equal(picture.read(), image)
