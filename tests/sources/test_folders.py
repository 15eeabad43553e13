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
from unet_keras.sources.folder_splits import draw_splits, read_lists
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

    def test_images_in_the_place_of_masks_are_guessed(self, tmp_path, rng):
        with pytest.raises(InputError, match=r"are images given where masks belong"):
            self.load(tmp_path, rng.integers(0, 255, (100, 100), np.uint8))

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


class TestSplits:
    NAMES = tuple(f"{'AB'[k % 2]}{k // 10}_{k}.png" for k in range(40))

    def splits(self, folders, **named):
        return {r.file_name: r.split for r in folder_references(*folders, kind="labels", **named)}

    def test_fractions_and_seeds(self, tmp_path):
        folders = write(tmp_path, self.NAMES)
        first = self.splits(folders, seed=1, fractions=(0.5, 0.25, 0.25))
        sizes = [list(first.values()).count(split) for split in ("train", "val", "test")]
        assert sizes == [20, 10, 10]
        assert self.splits(folders, seed=1, fractions=(0.5, 0.25, 0.25)) == first
        assert self.splits(folders, seed=2, fractions=(0.5, 0.25, 0.25)) != first

    def test_groups_stay_together_where_asked(self, tmp_path):
        folders = write(tmp_path, self.NAMES)
        splits = self.splits(folders, split_by_group=True)
        by_group = {}
        for name, split in splits.items():
            by_group.setdefault(name.split("_")[0], set()).add(split)
        assert all(len(found) == 1 for found in by_group.values())
        assert len(set(splits.values())) == 3

    def test_neighbors_stay_together_where_asked(self, tmp_path, caplog):
        """In the order of the sections' numbers, `2.png` before `10.png`."""
        folders = write(tmp_path, [f"{k}.png" for k in range(20)])
        for seed in range(3):
            named = {"fractions": (0.7, 0.1, 0.2), "seed": seed, "split_in_order": True}
            splits = self.splits(folders, **named)
            in_order = [splits[f"{k}.png"] for k in range(20)]
            assert in_order == ["train"] * 14 + ["val"] * 2 + ["test"] * 4
        assert "images are split in order: the first 14 are for train" in caplog.text

    def test_pages_of_stacks_that_are_split_in_order_stay_together(self, tmp_path):
        for place in ("images", "masks"):
            (tmp_path / place).mkdir()
            for name in "abcde":
                file = tmp_path / place / f"{name}.tif"
                tifffile.imwrite(file, np.stack([MASK] * 3), photometric="minisblack")
        folders = tmp_path / "images", tmp_path / "masks"
        named = {"kind": "labels", "fractions": (0.6, 0.2, 0.2), "split_in_order": True}
        found = [(one.image_path.stem, one.split) for one in folder_references(*folders, **named)]
        expected = dict(zip("abcde", ["train"] * 3 + ["val", "test"], strict=True))
        assert found == [(name, expected[name]) for name in "abcde" for _ in range(3)]

    @pytest.mark.parametrize("by_group", [False, True])
    def test_pages_of_a_stack_stay_together(self, tmp_path, by_group):
        stack = np.stack([MASK] * 5)
        for folder in ("images", "masks"):
            for name in ("x/a_1", "x/a_2", "y/a_1", "y/b-3", "c_1"):
                file = tmp_path / folder / f"{name}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(file, stack, photometric="minisblack")
        folders = tmp_path / "images", tmp_path / "masks"
        for seed in range(3):
            named = {"kind": "labels", "seed": seed, "split_by_group": by_group}
            references = folder_references(*folders, **named)
            assert {one.split for one in references} == {"train", "val", "test"}
            assert len({(one.image_path, one.split) for one in references}) == 5

    def test_folders_decide(self, tmp_path):
        folders = write(tmp_path, ["train/a.png", "train/b.png", "val/c.png", "test/a.png"])
        references = folder_references(*folders, kind="labels")
        assert [(r.image_id, r.split) for r in references] == [
            ("train/a", "train"),
            ("train/b", "train"),
            ("val/c", "val"),
            ("test/a", "test"),
        ]

    @pytest.mark.parametrize(
        ("name", "place"), [("valid/c.png", "in valid"), ("c.png", "in no folder")]
    )
    def test_folders_that_are_splits_in_part_are_refused(self, name, place, tmp_path):
        folders = write(tmp_path, ["train/a.png", name, "test/a.png"])
        with pytest.raises(InputError, match=rf"in test, train, which are splits, and {place},"):
            folder_references(*folders, kind="labels")
        lists = {"train": ["train/a"], "val": [name], "test": ["test/a"]}
        assert len(folder_references(*folders, kind="labels", lists=lists)) == 3

    def test_a_file_named_like_a_split_is_no_folder(self, tmp_path):
        folders = write(tmp_path, ["test.png", "b.png", "c.png"])
        assert len(self.splits(folders)) == 3

    def test_lists_decide(self, tmp_path):
        folders = write(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
        lists = {"train": ["a.png", "c"], "test": ["b.tif"]}
        assert self.splits(folders, lists=lists) == {
            "a.png": "train",
            "b.png": "test",
            "c.png": "train",
        }
        for wrong, message in (
            ({"train": ["a", "e"]}, r"1 listed images are not there, the first is e \(train\)"),
            ({"train": ["a"], "val": ["a.png"]}, r"a\.png is listed for train and for val"),
            ({"train": ["a.png", "b"], "val": ["b.png", "c"]}, r"b\.png is listed for train and"),
            ({"training": ["a"]}, "'training' is no split"),
        ):
            with pytest.raises(InputError, match=message):
                self.splits(folders, lists=wrong)

    def test_lists_name_images_in_folders_and_pages_of_stacks(self, tmp_path):
        folders = write(tmp_path, ["x/a.png", "y/a.png", "y/cell.v2.png", "z.png"])
        lists = {"train": ["x/a.png", "cell.v2"], "val": ["y/a", "./z.png"]}
        listed = folder_references(*folders, kind="labels", lists=lists)
        assert {one.image_id: one.split for one in listed} == {
            "x/a": "train",
            "y/a": "val",
            "y/cell.v2": "train",
            "z": "val",
        }
        with pytest.raises(InputError, match=r"a\.png, listed for test, could be .*x/a.*y/a"):
            self.splits(folders, lists={"test": ["a.png"]})
        stack = np.stack([MASK] * 3)
        for name in ("images", "masks"):
            (tmp_path / "stack" / name).mkdir(parents=True)
            tifffile.imwrite(
                tmp_path / "stack" / name / "volume.tif", stack, photometric="minisblack"
            )
        folders = tmp_path / "stack" / "images", tmp_path / "stack" / "masks"
        pages = folder_references(
            *folders, kind="labels", lists={"train": ["volume-2", "volume-0"]}
        )
        assert [(one.page, one.split) for one in pages] == [(0, "train"), (2, "train")]
        whole = folder_references(*folders, kind="labels", lists={"test": ["volume.tif"]})
        assert [one.split for one in whole] == ["test"] * 3

    def test_lists_are_read_from_files(self, tmp_path):
        (tmp_path / "train.txt").write_text("\ufeffa.png\n\n# notes\n  b.png  \r\n")
        (tmp_path / "test.txt").write_text("c\n")
        assert read_lists(tmp_path) == {"train": ["a.png", "b.png"], "test": ["c"]}
        (tmp_path / "train.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match=r"train.txt is no text in UTF-8"):
            read_lists(tmp_path)
        for empty in (tmp_path / "absent", tmp_path / "void"):
            (tmp_path / "void").mkdir(exist_ok=True)
            with pytest.raises(InputError, match=r"holds no train.txt with names in it"):
                read_lists(empty)

    @pytest.mark.parametrize("count", range(1, 9))
    def test_few_images(self, count):
        splits = draw_splits([str(k) for k in range(count)], (0.7, 0.15, 0.15), seed=0)
        assert len(splits) == count
        assert len(set(splits)) == min(count, 3)
        assert "train" in splits

    def test_a_fraction_of_zero_gets_nothing(self):
        assert set(draw_splits([str(k) for k in range(9)], (0.5, 0.0, 0.5), seed=0)) == {
            "train",
            "test",
        }


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
