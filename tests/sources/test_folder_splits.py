"""Which image goes into which split: by folders, lists, order, groups, or drawn."""

import numpy as np
import pytest
import tifffile

from tests.sources.test_folders import write
from tests.sources.test_label_outlines import MASK
from unet_keras.errors import InputError
from unet_keras.sources.folder_splits import draw_splits, read_lists
from unet_keras.sources.folders import folder_references


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

    @pytest.mark.parametrize("named", ["split_by_group", "split_in_order"])
    def test_folders_of_splits_and_another_way_are_refused(self, tmp_path, named):
        folders = write(tmp_path, ["train/A_1.png", "test/A_2.png"])
        with pytest.raises(InputError, match=rf"source\.{named}=true has no effect where .* test,"):
            self.splits(folders, **{named: True})

    def test_groups_that_do_not_go_round_are_refused(self, tmp_path):
        """One group for all, as a pattern gives that does not fit, would all be trained on."""
        folders = write(tmp_path, [f"img_{k}.png" for k in range(10)])
        with pytest.raises(InputError, match=r"each of 3 splits, but the 10 images are of 1 \(img"):
            self.splits(folders, split_by_group=True)
        splits = self.splits(folders, split_by_group=True, fractions=(0.0, 0.0, 1.0))
        assert set(splits.values()) == {"test"}

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
