"""Which file an image of COCO JSON is, and which are one file under several names."""

import numpy as np
import pytest

from tests.sources.coco_files import (
    L_SHAPE,
    annotation,
    coco,
    image,
    load_only,
    plain,
    save_image,
    square,
    write,
)
from unet_keras.errors import InputError
from unet_keras.sources.coco import coco_references, read_coco


def test_images_are_found_wherever_they_are(tmp_path):
    folders = write(tmp_path, train=plain(), test=plain())
    save_image(folders[0] / "livecell_train_val_images" / "A172" / "A172_1.png", seed=1)
    tested = save_image(folders[0] / "livecell_test_images" / "A172_1.png", seed=2)
    train, test = coco_references(*folders)
    assert train.image_path.parts[-3:-1] == ("livecell_train_val_images", "A172")
    np.testing.assert_array_equal(test.load().image, tested)


def test_a_path_in_the_json_decides(tmp_path):
    content = coco(
        [image(1, "a/x.png"), image(2, "b/x.png")],
        [annotation(1, 1, L_SHAPE), annotation(2, 2, L_SHAPE)],
    )
    folders = write(tmp_path, train=content)
    pixels = [save_image(folders[0] / name / "x.png", seed=k) for k, name in enumerate("ab")]
    for reference, expected in zip(coco_references(*folders), pixels, strict=True):
        np.testing.assert_array_equal(reference.load().image, expected)


def test_no_image_takes_the_place_of_an_absent_one(tmp_path):
    """Plates have wells of one name; one of them may not be copied yet."""
    content = coco(
        [image(1, "plateA/x.png"), image(2, "plateB/x.png")],
        [annotation(1, 1, L_SHAPE), annotation(2, 2, square(20, 10))],
    )
    folders = write(tmp_path, train=content, images=["plateA/x.png"])
    with pytest.raises(InputError, match=r"1 of 2 images .* the first is plateB/x\.png \(id 2\)"):
        coco_references(*folders)


def test_one_file_in_two_splits_is_a_leak_whatever_it_is_called(tmp_path):
    train = coco([image(7, "sub/A_1.png"), image(9, "B_1.png")], [annotation(1, 7, L_SHAPE)])
    val = coco([image(8, "A_1.png")], [annotation(1, 8, L_SHAPE)])
    folders = write(tmp_path, train=train, val=val, images=["sub/A_1.png", "B_1.png"])
    with pytest.raises(InputError, match=r"1 image in several splits: sub/A_1\.png"):
        read_coco(*folders, on_leak="error")
    references, notes = read_coco(*folders, on_leak="drop")
    assert [(one.file_name, one.split) for one in references] == [
        ("B_1.png", "train"),
        ("A_1.png", "val"),
    ]
    assert notes.leaked_images == {"sub/A_1.png": ("train", "val")}


def test_one_file_under_two_names_is_one_image(tmp_path):
    content = coco(
        [image(7, "sub/A_1.png"), image(8, "A_1.png")],
        [annotation(1, 7, L_SHAPE), annotation(2, 8, L_SHAPE), annotation(3, 8, square(20, 10))],
    )
    (sample,), notes = load_only(tmp_path, content, ["sub/A_1.png"])
    assert len(sample.outlines) == 2
    assert notes.merged_images == ("sub/A_1.png",)
    assert (notes.repeated_instances, notes.images) == (1, {"train": 1})
    content["images"][1]["height"] = 9
    with pytest.raises(InputError, match=r"another size for A_1\.png \(id 8\) than for sub/A_1"):
        load_only(tmp_path, content)


def test_links_are_the_files_they_lead_to(tmp_path):
    folders = write(tmp_path, train=plain(), images=["sub/A172_1.png"])
    (folders[0] / "sub" / "loop").symlink_to(".")
    (folders[0] / "again").symlink_to("sub")
    (folders[0] / "first").mkdir()
    (folders[0] / "first" / "A172_1.png").symlink_to("../sub/A172_1.png")
    (reference,) = coco_references(*folders)
    assert reference.image_path.samefile(folders[0] / "sub" / "A172_1.png")
    content = plain()
    content["images"][0]["file_name"] = "again/A172_1.png"
    write(tmp_path, train=content)
    (reference,) = coco_references(*folders)
    assert reference.image_path == folders[0] / "again" / "A172_1.png"
    save_image(folders[0] / "other" / "A172_1.png", seed=1)
    write(tmp_path, train=plain())
    with pytest.raises(InputError, match=r"A172_1\.png .* is there twice"):
        coco_references(*folders)
