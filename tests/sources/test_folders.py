"""Pairs of images and masks: which belong together, what the masks mean, which split."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from tests.sources.test_label_outlines import MASK
from unet_keras.errors import InputError
from unet_keras.sources.folders import folder_references

ISBI = Path(os.environ.get("ISBI2012_SAMPLE", "../shared/data/isbi2012_sample"))


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(folder, names, *, mask=MASK, mask_name="{stem}.png"):
    """Images of different grey by their position, all with the same mask."""
    for k, name in enumerate(names):
        save(folder / "images" / name, np.full(mask.shape, k, np.uint8))
        place = Path(name)
        save(folder / "masks" / place.parent / mask_name.format(stem=place.stem), mask)
    return folder / "images", folder / "masks"


def decoded(sample):
    codes = [{"size": list(sample.size), "counts": counts} for counts in sample.outlines]
    return [coco_mask.decode(code) for code in codes]


class TestKinds:
    def load(self, folder, mask, **named):
        images, masks = write(folder, ["a.png"], mask=mask)
        (reference,) = folder_references(images, masks, fractions=(1, 0, 0), **named)
        return reference, reference.load()

    @pytest.mark.parametrize("kind", ["auto", "binary"])
    def test_binary_masks_have_components(self, kind, tmp_path):
        reference, sample = self.load(tmp_path, (MASK == 1).astype(np.uint8) * 255, kind=kind)
        assert reference.kind == "binary"
        assert [mask.sum() for mask in decoded(sample)] == [3, 2]
        assert sample.classes.tolist() == [1, 1]

    def test_label_maps_have_an_instance_a_value(self, tmp_path):
        _, sample = self.load(tmp_path, MASK, kind="labels")
        for value, mask in enumerate(decoded(sample), start=1):
            np.testing.assert_array_equal(mask, value == MASK)
        assert sample.classes.tolist() == [1, 1, 1]

    def test_class_masks_have_components_of_each_value(self, tmp_path):
        spread = np.array([0, 40, 7, 90], np.uint8)[MASK]
        reference, sample = self.load(tmp_path, spread, kind="classes")
        assert reference.class_values == (7, 40, 90)
        for mask, index in zip(decoded(sample), sample.classes, strict=True):
            assert set(spread[mask > 0].tolist()) == {(7, 40, 90)[index - 1]}
        assert sorted(sample.classes.tolist()) == [1, 1, 2, 2, 3]

    def test_a_value_that_is_no_class_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.png has the value 3, .* none of the classes"):
            self.load(tmp_path, MASK, kind="classes", class_values=(1, 2))

    def test_more_classes_than_a_byte_holds_are_refused(self, tmp_path):
        numbers = np.arange(16 * 17, dtype=np.uint16).reshape(16, 17)
        with pytest.raises(InputError, match=r"have 271 classes, .* 255 .*=labels"):
            self.load(tmp_path, numbers, kind="classes")

    def test_classes_count_in_the_order_given(self, tmp_path):
        _, rising = self.load(tmp_path / "a", MASK, kind="classes", class_values=(1, 2, 3))
        _, given = self.load(tmp_path / "b", MASK, kind="classes", class_values=(3, 1, 2))
        index = {1: 2, 2: 3, 3: 1}
        assert given.classes.tolist() == [index[k] for k in rising.classes.tolist()]

    def test_sixteen_and_thirty_two_bit_labels(self, tmp_path):
        large = MASK.astype(np.uint32) * 100_000
        images, masks = write(tmp_path, ["a.png"])
        (masks / "a.png").unlink()
        tifffile.imwrite(masks / "a.tif", large)
        (reference,) = folder_references(images, masks, kind="labels", fractions=(1, 0, 0))
        assert [mask.sum() for mask in decoded(reference.load())] == [
            (value == MASK).sum() for value in (1, 2, 3)
        ]

    def test_auto_tells_them_apart(self, tmp_path, rng):
        labels = np.arange(1, 26, dtype=np.uint8).reshape(5, 5).repeat(4, 0).repeat(4, 1)
        assert self.load(tmp_path / "l", labels)[0].kind == "labels"
        classes = labels % 3
        assert self.load(tmp_path / "c", classes)[0].kind == "classes"
        with pytest.raises(InputError, match=r"3 values with 1\.7 connected .*kind=labels .*or"):
            self.load(tmp_path / "u", MASK)

    def test_two_ways_to_save_one_value_are_one(self, tmp_path):
        """One program writes 0 and 1, another 0 and 255."""
        images, masks = write(tmp_path, ["a.png", "b.png"], mask=np.uint8(MASK > 0))
        save(masks / "b.png", np.uint8(255) * (MASK > 0))
        references = folder_references(images, masks, fractions=(1, 0, 0))
        assert {reference.kind for reference in references} == {"binary"}

    def test_images_in_the_place_of_masks_are_guessed(self, tmp_path, rng):
        with pytest.raises(InputError, match=r"are images given where masks belong"):
            self.load(tmp_path, rng.integers(0, 255, (100, 100), np.uint8))

    @pytest.mark.parametrize("kind", ["auto", "binary", "labels", "classes"])
    def test_an_image_is_not_its_own_mask(self, kind, tmp_path):
        images, _ = write(tmp_path, ["a.png", "b.png"])
        for masks in (images, images / "a.png"):
            with pytest.raises(InputError, match=r"a\.png is given as an image and as its mask"):
                folder_references(images / "a.png" if masks != images else images, masks, kind=kind)

    def test_an_unknown_kind_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="'outlines' must be one of auto, binary"):
            self.load(tmp_path, MASK, kind="outlines")


class TestPairs:
    @pytest.mark.parametrize(
        "name", ["{stem}.png", "{stem}_mask.png", "{stem}-labels.tif", "{stem}_cp_masks.png",
                 "mask_{stem}.png", "{stem} segmentation.png"]
    )  # fmt: skip
    def test_masks_are_found_by_name(self, name, tmp_path):
        folders = write(tmp_path, ["x_1.png", "sub/x_1.png", "10.tif", "2.png"], mask_name=name)
        references = folder_references(*folders, kind="labels", fractions=(1, 0, 0))
        assert [reference.image_id for reference in references] == ["2", "10", "sub/x_1", "x_1"]
        for reference in references:
            assert reference.mask_path.parent.name in ("masks", "sub")

    def test_images_without_a_mask_are_counted(self, tmp_path):
        images, masks = write(tmp_path, ["a.png", "b.png", "c.png"])
        (masks / "b.png").unlink()
        with pytest.raises(
            InputError, match=r"1 of 3 images .* the first is b\.png; .*b_mask\.png"
        ):
            folder_references(images, masks)

    def test_ambiguous_names_are_refused(self, tmp_path):
        images, masks = write(tmp_path, ["a.png", "b.png"])
        save(masks / "a_mask.png", MASK)
        with pytest.raises(InputError, match="could both be a mask of a"):
            folder_references(images, masks)
        (masks / "a_mask.png").unlink()
        save(images / "a.tif", MASK)
        with pytest.raises(InputError, match="have one name; rename one"):
            folder_references(images, masks)

    def test_lossy_masks_are_refused(self, tmp_path):
        folders = write(tmp_path, ["a.png"], mask_name="{stem}.jpg")
        with pytest.raises(InputError, match=r"mask .*a\.jpg is a JPEG"):
            folder_references(*folders)

    def test_names_in_another_encoding_are_refused(self, tmp_path):
        write(tmp_path, ["a.png", "b.png"])
        for folder in ("images", "masks"):
            place = os.fsencode(tmp_path / folder)
            try:
                os.rename(place + b"/a.png", place + b"/\xe9.png")  # noqa: PTH104 - no Path has it
            except OSError:
                pytest.skip("this file system has names in UTF-8 only")
        with pytest.raises(InputError, match=r"The name of b'.*xe9\.png' is no text in UTF-8"):
            folder_references(tmp_path / "images", tmp_path / "masks", kind="labels")

    def test_absent_folders_are_named(self, tmp_path):
        images, _ = write(tmp_path, ["a.png"])
        with pytest.raises(InputError, match=r"No folder or mask at source\.annotations=.*absent"):
            folder_references(images, tmp_path / "absent")
        with pytest.raises(InputError, match=r"No folder or image at .*absent"):
            folder_references(tmp_path / "absent", images)

    def test_masks_without_an_image_are_counted(self, tmp_path, caplog):
        images, masks = write(tmp_path, ["a.png", "b.png", "c.png"])
        folder_references(images, masks, kind="labels")
        assert caplog.text == ""
        for name in ("a.png", "c.png"):
            (images / name).unlink()
        assert len(folder_references(images, masks, kind="labels")) == 1
        assert f"2 masks in {masks} without an image in {images}, left out; the" in caplog.text

    def test_another_size_is_refused_when_loaded(self, tmp_path):
        images, masks = write(tmp_path, ["a.png"])
        save(images / "a.png", np.zeros((6, 4), np.uint8))
        (reference,) = folder_references(images, masks, kind="labels", fractions=(1, 0, 0))
        with pytest.raises(InputError, match=r"masks/a\.png is 6 x 4 pixels .*a\.png 4 x 6"):
            reference.load()

    def test_stacks_are_pairs_of_pages(self, tmp_path, rng, caplog):
        stack = rng.integers(0, 255, (30, 12, 15), np.uint8)
        tifffile.imwrite(tmp_path / "train-volume.tif", stack, photometric="minisblack")
        membranes = np.where(stack > 128, np.uint8(255), np.uint8(0))
        tifffile.imwrite(tmp_path / "train-labels.tif", membranes, photometric="minisblack")
        references = folder_references(
            tmp_path / "train-volume.tif", tmp_path / "train-labels.tif", fractions=(0.8, 0.1, 0.1)
        )
        assert len(references) == 30
        assert [r.split for r in references].count("train") == 24
        for reference in references[::7]:
            sample = reference.load()
            np.testing.assert_array_equal(sample.image, stack[reference.page])
            covered = np.max(decoded(sample), axis=0)
            np.testing.assert_array_equal(covered > 0, membranes[reference.page] > 0)
        assert [r.page for r in references] == list(range(30)), "neighbors stay together"
        assert "volume.tif is the only stack: the first 24 are for train" in caplog.text
        tifffile.imwrite(tmp_path / "short.tif", membranes[:29], photometric="minisblack")
        with pytest.raises(InputError, match=r"has 30 pages, its mask .* has 29"):
            folder_references(tmp_path / "train-volume.tif", tmp_path / "short.tif")

    def test_references_travel_and_know_their_files(self, tmp_path):
        folders = write(tmp_path, ["a.png"])
        (reference,) = folder_references(*folders, kind="labels", fractions=(1, 0, 0))
        travelled = pickle.loads(pickle.dumps(reference))
        assert travelled == reference
        assert travelled.fingerprint() == reference.fingerprint()
        os.utime(reference.mask_path, (1, 1))
        assert travelled.fingerprint() != pickle.loads(pickle.dumps(reference)).image_id


@pytest.mark.skipif(not ISBI.is_dir(), reason="the ISBI 2012 sample is not here")
def test_isbi_2012():
    references = folder_references(ISBI / "image", ISBI / "label")
    assert len(references) == 20
    assert {reference.kind for reference in references} == {"binary"}
    sample = references[0].load()
    assert sample.image.shape == (512, 512)
    mask = np.asarray(Image.open(references[0].mask_path))
    np.testing.assert_array_equal(np.sum(decoded(sample), axis=0), mask == 255)
    assert 50 < len(sample.outlines) < 200
