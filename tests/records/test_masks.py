"""Images and masks as PNG files say the same as the records."""

import numpy as np
import pytest

from tests.records.examples import drawn
from tests.records.test_writer import content
from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings, build_record
from unet_keras.records.masks import (
    demand_own_folder,
    grey_image,
    make_folders,
    mask_names,
    write_masks,
)
from unet_keras.sources.folders import folder_references
from unet_keras.sources.images import read_image, read_mask

COUNTS = {"train": 3, "val": 1, "test": 1}


def write(references, directory, *, settings=None, **named):
    names = mask_names(references, directory)
    make_folders(directory, references)
    written = list(
        write_masks(references, names, directory, settings or TargetSettings(), workers=1, **named)
    )
    assert sum(written) == len(references)
    return names


@pytest.mark.parametrize("separate", [True, False])
def test_as_folders_they_are_the_same_data_set(separate, tmp_path):
    references = drawn(COUNTS)
    settings = TargetSettings(separate=separate)
    names = write(references, tmp_path, settings=settings)
    assert names[0] == "train/A_0.png"
    again = folder_references(tmp_path / "images", tmp_path / "masks", kind="binary")
    assert {(r.split, r.group, r.file_name) for r in again} == {
        (r.split, r.group, r.file_name) for r in references
    }
    for reference, name in zip(references, names, strict=True):
        record, foreground = build_record(reference.load(), settings)
        np.testing.assert_array_equal(read_image(tmp_path / "images" / name), record.image)
        mask = read_mask(tmp_path / "masks" / name)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.where(foreground > 0, 255, 0))


def test_several_classes_keep_their_numbers(tmp_path):
    references = drawn({"train": 1}, classes=3)
    (name,) = write(references, tmp_path, num_classes=3)
    record, foreground = build_record(references[0].load(), TargetSettings())
    classes = np.concatenate([[0], record.classes])[foreground]
    np.testing.assert_array_equal(read_mask(tmp_path / "masks" / name), classes)


def test_any_number_of_processes_and_a_second_run_write_the_same(tmp_path):
    references = drawn({"train": 17})
    write(references, tmp_path / "one")
    names = mask_names(references, tmp_path / "two")
    make_folders(tmp_path / "two", references)
    list(write_masks(references, names, tmp_path / "two", TargetSettings(), workers=2))
    before = content(tmp_path / "one")
    assert content(tmp_path / "two") == before
    left = tmp_path / "one" / "images" / f"{names[0]}.123.temporary"
    left.write_bytes(b"half")
    write(references, tmp_path / "one")
    assert content(tmp_path / "one") == before


@pytest.mark.parametrize("place", ["images/train/other.png", "masks/val/A_0.png"])
def test_a_folder_with_something_else_is_refused(place, tmp_path):
    """Another split written into the same folder would put an image into two."""
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(InputError, match=rf"{file.name} is not of these images.*give another"):
        mask_names(drawn(COUNTS), tmp_path)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", [".DS_Store", "._a.png", "Thumbs.db"])
def test_what_systems_leave_in_folders_is_no_such_thing(name, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).touch()
    assert len(mask_names(drawn(COUNTS), tmp_path)) == sum(COUNTS.values())


@pytest.mark.parametrize("source", ["images", "masks/train", ".", "link"])
def test_what_is_read_is_not_written_over(source, tmp_path):
    for folder in ("images", "masks/train"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("images")
    sources = {"source.images": tmp_path / source}
    with pytest.raises(InputError, match=r"source\.images=.* is read from there; give a folder"):
        demand_own_folder(tmp_path, sources)
    demand_own_folder(tmp_path / "own", {"source.images": tmp_path / "images"})


def test_names_are_unique_and_stay_inside_the_folder(tmp_path):
    first, second, third = drawn({"train": 3})
    kind = type(first)
    stack = [
        kind(**{**vars(one), "file_name": "stack.tif", "image_id": f"stack-{k}"})
        for k, one in enumerate((first, second))
    ]
    assert mask_names(stack, tmp_path) == ["train/stack-0.png", "train/stack-1.png"]
    hostile = kind(**{**vars(first), "file_name": "..", "image_id": "../../x"})
    odd = kind(**{**vars(second), "file_name": "a b\\c.tif"})
    same = kind(**{**vars(third), "file_name": "a_b_c.tif", "image_id": odd.image_id})
    names = mask_names([hostile, odd, same], tmp_path)
    assert len(set(names)) == 3
    for name in names:
        assert (tmp_path / name).resolve().parent == tmp_path / "train"


def test_a_full_disk_is_named(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written to \(File too large\)"):
            write(drawn({"train": 1}), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(tmp_path) == {}


def test_images_become_grey(rng):
    grey = rng.integers(0, 65535, (4, 5)).astype(np.uint16)
    assert grey_image(grey) is grey
    np.testing.assert_array_equal(grey_image(grey[..., None]), grey)
    np.testing.assert_array_equal(grey_image(np.stack([grey] * 3, axis=-1)), grey)
    green = np.zeros((2, 2, 3), np.uint8)
    green[..., 1] = 100
    assert (grey_image(green) == 59).all()
    assert grey_image(green).dtype == np.uint8
    two = np.stack([grey, grey // 2], axis=-1)
    np.testing.assert_allclose(grey_image(two), grey * 0.75, atol=1)
    fractions = np.array([[-1.0, 0.0], [1.0, np.nan]], np.float32)
    assert grey_image(fractions).tolist() == [[0, 32768], [65535, 32768]]
    assert grey_image(np.ones((2, 2), np.float32)).max() == 0
