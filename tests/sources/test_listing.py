"""Which files of a folder are images, and in which order."""

import os

import pytest

from unet_keras.errors import InputError
from unet_keras.sources.listing import list_images


def test_folders_are_listed_in_natural_order(tmp_path):
    for name in ("10.png", "2.png", "1.TIF", "a/3.jpg", "notes.txt", "2b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [file.name for file in list_images(tmp_path)]
    assert names == ["1.TIF", "2.png", "2b.png", "10.png"]
    assert len(list_images(tmp_path, recursive=True)) == 5
    assert list_images(tmp_path / "2.png") == [tmp_path / "2.png"]
    with pytest.raises(InputError, match="No folder or image at"):
        list_images(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no image; files ending in \.tif"):
        list_images(tmp_path / "empty")


def test_raised_digits_are_no_numbers(tmp_path):
    for name in ("1²3.png", "1²10.png", "µm².png"):
        (tmp_path / name).touch()
    assert [file.name for file in list_images(tmp_path)] == ["1²3.png", "1²10.png", "µm².png"]


def test_only_visible_files_are_listed(tmp_path):
    for name in ("a.png", "._a.png", ".trash/b.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    listed = list_images(tmp_path, recursive=True)
    assert [file.name for file in listed] == ["a.png", "c.png"]


def test_linked_folders_are_entered(tmp_path):
    """Plates on another disk are linked often; none may vanish, or be there twice."""
    for name in ("disk/plate2/b.png", "images/plate1/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    images = tmp_path / "images"
    (images / "plate2").symlink_to("../disk/plate2")
    (images / "again").symlink_to("plate1")
    (images / "plate3").symlink_to("plate2")
    (images / "plate1" / "loop").symlink_to("..")
    listed = [path.relative_to(images).as_posix() for path in list_images(images, recursive=True)]
    assert listed == ["plate1/a.png", "plate2/b.png"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root reads all")
def test_folders_that_do_not_permit_it_are_named(tmp_path, caplog):
    (tmp_path / "a.png").touch()
    (tmp_path / "closed").mkdir(mode=0)
    assert list_images(tmp_path, recursive=True) == [tmp_path / "a.png"]
    assert "closed does not permit to be read" in caplog.text
