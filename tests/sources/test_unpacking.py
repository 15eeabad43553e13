"""No archive writes outside its folder, fills the disk or leaves anything half-done."""

import stat
import zipfile

import numpy as np
import pytest

from unet_keras.errors import InputError
from unet_keras.sources import unpacking
from unet_keras.sources.unpacking import UnsoundArchiveError, unpack_images

PIXELS = np.random.default_rng(0).bytes(5000)


def archive(folder, members, **named):
    """A zip file of members: names, or ZipInfo for what is special about them."""
    with zipfile.ZipFile(folder / "some.zip", "w", zipfile.ZIP_DEFLATED, **named) as file:
        for name, data in members:
            file.writestr(name, data)
    return folder / "some.zip"


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def refused(path, folder, message, kind=UnsoundArchiveError):
    before = everything(folder.parent)
    with pytest.raises(kind, match=message):
        unpack_images(path, folder)
    assert everything(folder.parent) == before
    assert not (folder / ".unpacking").exists()


def test_images_come_out_without_the_folder_around_all(tmp_path):
    seen = []
    members = [
        ("images/", b""),
        ("images/train/a.tif", PIXELS),
        ("images/test/b.TIF", b"b"),
        ("images/readme.txt", b"text"),
        ("__MACOSX/images/a.tif", b"junk"),
    ]
    path = archive(tmp_path, members)
    count = unpack_images(path, tmp_path / "out", progress=lambda *one: seen.append(one))
    assert count == 2
    assert everything(tmp_path / "out") == {"train/a.tif": PIXELS, "test/b.TIF": b"b"}
    assert seen == [(5000, 5001), (5001, 5001)]


def test_several_folders_stay_and_so_does_what_is_there(tmp_path):
    out = tmp_path / "out"
    (out / "train").mkdir(parents=True)
    (out / "train" / "notes.md").write_text("mine")
    (out / "train" / "a.tif").write_text("from an interrupted run")
    unpack_images(archive(tmp_path, [("train/a.tif", PIXELS), ("test/./b.tif", b"b")]), out)
    assert everything(out) == {"train/a.tif": PIXELS, "test/b.tif": b"b", "train/notes.md": b"mine"}


@pytest.mark.parametrize(
    "name",
    [
        "../evil.tif",
        "a/../../evil.tif",
        "/tmp/evil.tif",
        "a/../b.tif",
        "..\\evil.tif",
        "C:/evil.tif",
        "C:\\evil.tif",
        "../evil.txt",
    ],
)
def test_names_that_leave_the_folder_are_refused(name, tmp_path):
    path = archive(tmp_path, [("good.tif", PIXELS), (name, b"x")])
    refused(path, tmp_path / "room" / "out", "could lead out of its folder")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666, stat.S_IFIFO])
def test_links_and_devices_are_refused(mode, tmp_path):
    path = archive(tmp_path, [("a.tif", PIXELS), (special("b.tif", mode), "/etc/passwd")])
    refused(path, tmp_path / "out", "'b.tif' is a link or a device")


def test_a_link_and_a_file_below_it(tmp_path):
    link = special("images", stat.S_IFLNK | 0o777)
    path = archive(tmp_path, [(link, str(tmp_path)), ("images/evil.tif", b"x")])
    refused(path, tmp_path / "out", "is a link")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    refused(archive(tmp_path, [("a.tif", bytes(50_000_000))]), tmp_path / "o", r"grow to 0\.1 GB")
    monkeypatch.setattr(unpacking, "MOST_BYTES", 4000)
    refused(archive(tmp_path, [("a.tif", PIXELS)]), tmp_path / "o", r"grow to")
    monkeypatch.setattr(unpacking, "MOST_FILES", 2)
    many = archive(tmp_path, [(f"{k}.tif", b"") for k in range(3)])
    refused(many, tmp_path / "o", "3 members, more than 2")


def test_a_file_that_is_larger_than_it_says_is_refused(tmp_path):
    path = archive(tmp_path, [("a.tif", b"x" * 5000), ("b.tif", PIXELS)])
    data = bytearray(path.read_bytes())
    for place in (data.find(b"PK\x03\x04") + 22, data.find(b"PK\x01\x02") + 24):
        data[place : place + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, tmp_path / "out", "it is damaged")


@pytest.mark.parametrize("members", [[], [("readme.txt", b"text")], [("a/", b"")]])
def test_an_archive_without_images_is_refused(members, tmp_path):
    refused(archive(tmp_path, members), tmp_path / "out", "it holds no image")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(tmp_path):
    path = archive(tmp_path, [("a/b.tif", b"1"), ("a/./b.tif", b"2")])
    refused(path, tmp_path / "out", r"two files 'a/b\.tif'")


def test_damage_is_found(tmp_path):
    path = archive(tmp_path, [("a.tif", PIXELS)])
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    for data in (bytes(flipped), whole[:3000], b"no zip", b""):
        path.write_bytes(data)
        refused(path, tmp_path / "out", "it is damaged")


def test_rare_compression_is_refused(tmp_path):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.tif", PIXELS)
    refused(path, tmp_path / "out", "rare way")


def test_a_full_disk_is_named_and_nothing_stays(tmp_path):
    resource = pytest.importorskip("resource")
    path = archive(tmp_path, [("a.tif", b"small"), ("b.tif", PIXELS)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        refused(path, tmp_path / "out", r"unpacked into .*out \(File too large\)", InputError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert unpack_images(path, tmp_path / "out") == 2
