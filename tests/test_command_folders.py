"""Folders of images and masks: what cannot be meant is refused, what looks odd is told."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commanding import SMALL, Run, assert_one_line


def write_pairs(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """Write images and masks of labels; return the overrides that name them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for k in range(first, first + count):
        rng = np.random.default_rng(k)
        image = rng.integers(0, 255, (64, 64), np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{k}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[4:20, 4:20], mask[30:50, 8:30], mask[30:50, 40:60] = 1, 2, 3
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return [f"source.images={folder}/images", f"source.annotations={folder}/masks"]


FOLDERS = ["source.kind=folders", *SMALL]
PREVIEW = ["train.run_dir=r", "pipeline.crop=[32, 32]", "--preview", "1"]


@pytest.mark.slow
def test_records_of_other_folders_are_not_learned_from(run: Run, tmp_path: Path) -> None:
    own, other = write_pairs(Path("own"), 4), write_pairs(Path("other"), 4, first=9)
    assert run("make_records", *FOLDERS, *own)[0] == 0
    given = ["records.path=records", "train.run_dir=runs/second"]
    result = run("train", "source.kind=folders", *given, *other)
    assert_one_line(
        result, "records holds records of source.images=own/images source.annotations=own/masks",
        "but the config says source.images=other/images", "make_records", "another records.path",
    )  # fmt: skip
    assert not Path("runs").exists()
    assert_one_line(run("train", *FOLDERS, *own[:1], *other[1:], *PREVIEW), "other/masks")
    assert_one_line(run("train", *FOLDERS, *own[:1], *other[1:], "--find-lr"), "other/masks")
    Path("own").rename("moved")  # then the same words are enough
    for same in (own, [each.replace("own", f"{tmp_path}/own") for each in own], []):
        kind = FOLDERS if same else SMALL
        assert run("train", *kind, *same, *PREVIEW)[0] == 0


@pytest.mark.slow
def test_images_that_changed_their_splits_are_told(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    own = [*write_pairs(Path("own"), 4), "source.lists=lists"]
    Path("lists").mkdir()
    for split, names in (("train", "0 1"), ("val", "2"), ("test", "3")):
        Path(f"lists/{split}.txt").write_text(names.replace(" ", "\n"))
    Path("own/images/old.zip").symlink_to("nowhere")
    Path("lists/notes.txt").write_text("mine")
    assert run("make_records", *FOLDERS, *own)[0] == 0
    assert run("train", *FOLDERS, *own, *PREVIEW)[0] == 0
    assert "was made" not in caplog.text
    Path("lists/notes.txt").write_text("changed")
    assert run("train", *FOLDERS, *own, *PREVIEW)[0] == 0
    assert "was made" not in caplog.text
    Path("lists/train.txt").write_text("0\n3")
    Path("lists/test.txt").write_text("1")
    assert run("train", *FOLDERS, *own, *PREVIEW)[0] == 0
    assert "was made before this: 2 files changed in lists (test.txt, ...)" in caplog.text


@pytest.mark.slow
def test_files_that_came_or_went_since_are_told(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = write_pairs(Path("own"), 4)
    assert run("make_records", *FOLDERS, *own)[0] == 0
    long = "train.phases=[{epochs: 2, warmup_steps: 20}]"  # a preview has no steps
    assert run("train", *FOLDERS, *own, *PREVIEW, long)[0] == 0
    assert "was made" not in caplog.text
    write_pairs(Path("own"), 1, first=4)
    Path("own/images/0.png").unlink()
    assert run("train", *FOLDERS, *own, *PREVIEW)[0] == 0
    assert (
        "1 file added in own/images (4.png), 1 file removed in own/images (0.png), "
        "1 file added in own/masks (4.png)"
    ) in caplog.text


@pytest.mark.slow
def test_masks_that_were_corrected_since_are_told(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """In files that keep their size, as TIFFs do that are not compressed."""
    own = write_pairs(Path("own"), 3)
    assert run("make_records", *FOLDERS, *own)[0] == 0
    mask = Path("own/masks/1.png")
    made = mask.stat()
    os.utime(mask, ns=(made.st_atime_ns, made.st_mtime_ns - 10**9))  # brought back
    assert run("train", *FOLDERS, *own, *PREVIEW)[0] == 0
    assert "was made before" not in caplog.text
    os.utime(mask, ns=(made.st_atime_ns, made.st_mtime_ns + 10**9))
    assert run("train", *FOLDERS, *own, *PREVIEW)[0] == 0
    assert "was made before this: 1 file changed in own/masks (1.png)" in caplog.text


def test_folders_for_a_kind_that_reads_none_are_refused(run: Run, records: Path) -> None:
    given = write_pairs(Path("own"), 2)
    for command in ("make_records", "train"):
        for path in ("records", str(records)):
            for key in given:
                result = run(command, f"records.path={path}", key)
                assert_one_line(
                    result, f"{key} is given, but source.kind=synthetic reads no folder",
                    "source.kind=folders",
                )  # fmt: skip
    assert not Path("records").exists()


def test_records_of_other_folders_are_replaced_with_a_word(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = write_pairs(Path("own"), 3), write_pairs(Path("other"), 3, first=9)
    assert run("make_records", *FOLDERS, *own)[0] == 0
    assert run("make_records", *FOLDERS, *own, "source.fractions=[1, 0, 0]")[0] == 0
    assert "replaced" not in caplog.text
    assert run("make_records", *FOLDERS, *other)[0] == 0
    assert (
        "records: records of source.images=own/images source.annotations=own/masks are replaced "
        "by those of source.images=other/images source.annotations=other/masks; another "
        "records.path keeps both"
    ) in caplog.text


def test_records_do_not_go_among_their_images(run: Run) -> None:
    own = write_pairs(Path("own"), 2)
    for key, place in (("images", "own/images"), ("annotations", "./own/masks/")):
        result = run("make_records", *FOLDERS, *own, f"records.path={place}")
        assert_one_line(result, "records.path=own/", f"is the folder of source.{key}")
    assert sorted(path.name for path in Path("own/images").iterdir()) == ["0.png", "1.png"]


def test_masks_that_are_all_empty_are_refused(run: Run) -> None:
    own = write_pairs(Path("own"), 3)
    for mask in Path("own/masks").iterdir():
        Image.new("L", (64, 64)).save(mask)
    result = run("make_records", *FOLDERS, *own)
    assert_one_line(result, "None of the 3 images has an instance, the first is", ".png")
    assert not Path("records/manifest.json").exists()


def test_masks_that_can_hardly_be_meant_are_told(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    own = write_pairs(Path("own"), 5)
    binary = np.asarray(Image.open("own/masks/1.png")) > 0
    Image.fromarray(binary.astype(np.uint8)).save("own/masks/1.png")
    Image.new("L", (64, 64), 255).save("own/masks/2.png")
    assert run("make_records", *FOLDERS, *own)[0] == 0
    assert "1 image with a single instance that lies in several pieces" in caplog.text
    assert "(source.mask_kind=binary would make each piece an instance): 1.png in 3" in caplog.text
    assert "a single instance from edge to edge, as from a mask that is full: 2.png" in caplog.text
