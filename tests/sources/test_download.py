"""LIVECell from a server on loopback."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.sources.web import serving
from unet_keras.errors import InputError
from unet_keras.sources import download
from unet_keras.sources.coco import coco_references
from unet_keras.sources.download import download_livecell
from unet_keras.sources.synthetic import write_livecell_layout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The files of a small data set, by their place on the server."""
    folder = tmp_path_factory.mktemp("published") / "data"
    write_livecell_layout(folder, {"train": 2, "val": 1, "test": 1}, seed=0, size=(64, 80))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.glob("images/*/*.tif")):
            archive.write(path, path.relative_to(folder))
    files = {
        f"set/annotations/LIVECell/{path.name}": path.read_bytes()
        for path in folder.glob("annotations/*.json")
    }
    return {**files, "set/images.zip": packed.getvalue()}


def get(web, folder, **named):
    images, annotations = folder / "images", folder / "annotations"
    download_livecell(images, annotations, url=f"{web.url}/set/", wait_seconds=0, **named)
    return coco_references(images, annotations)


def files_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_is_published_is_fetched_once(published, tmp_path):
    seen = []
    with serving(published) as web:
        references = get(web, tmp_path, progress=lambda *one: seen.append(one))
        assert len(web.asked) == 4
        assert len(get(web, tmp_path)) == 4
        assert len(web.asked) == 4
    assert [reference.load().size for reference in references] == [(64, 80)] * 4
    names = files_of(tmp_path)
    assert len(names) == 7
    assert all(name.startswith(("images/livecell_", "annotations/livecell_")) for name in names)
    assert list(dict.fromkeys(name for name, _, _ in seen)) == [
        "livecell_coco_train.json",
        "livecell_coco_val.json",
        "livecell_coco_test.json",
        "images.zip",
        "unpacking images.zip",
    ]


def test_only_what_is_missing_is_fetched(published, tmp_path):
    with serving(published) as web:
        get(web, tmp_path)
        next((tmp_path / "annotations").glob("*val.json")).unlink()
        web.asked.clear()
        get(web, tmp_path)
        assert [name for name, _ in web.asked] == [
            "set/annotations/LIVECell/livecell_coco_val.json"
        ]
        shutil.rmtree(tmp_path / "images")
        web.asked.clear()
        get(web, tmp_path)
        assert [name for name, _ in web.asked] == ["set/images.zip"]


def test_interrupted_unpacking_is_done_again(published, tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    def kill(*_):
        raise KilledError

    with serving(published) as web:
        with monkeypatch.context() as patch:
            real = Path.replace
            patch.setattr(
                Path,
                "replace",
                lambda self, to: kill() if "train_val_images" in str(to) else real(self, to),
            )
            with pytest.raises(KilledError):
                get(web, tmp_path)
        assert any((tmp_path / "images").rglob("*.tif"))
        web.asked.clear()
        assert len(get(web, tmp_path)) == 4
        assert web.asked == []
    assert len(files_of(tmp_path)) == 7


def test_a_hostile_archive_is_thrown_away(published, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.tif", b"x")
    with serving({**published, "set/images.zip": packed.getvalue()}) as web:
        with pytest.raises(InputError, match="could lead out of its folder"):
            get(web, tmp_path / "deep" / "down")
        assert not list(tmp_path.rglob("*.tif"))
        assert not list(tmp_path.rglob(".images.zip*"))
        web.files["set/images.zip"] = published["set/images.zip"]
        assert len(get(web, tmp_path / "deep" / "down")) == 4


def test_checksums_that_are_known_are_held(published, tmp_path):
    wrong = {"livecell_coco_val.json": "0" * 64}
    with serving(published) as web:
        with pytest.raises(InputError, match=r"livecell_coco_val\.json arrived with the SHA-256"):
            get(web, tmp_path, sha256=wrong)
        assert files_of(tmp_path) == ["annotations/livecell_coco_train.json"]
        with pytest.raises(InputError, match=r"sha256 names image\.zip, but the files are images"):
            get(web, tmp_path, sha256={"image.zip": "0" * 64})


def test_the_command_fetches_converts_and_names_trouble(published, tmp_path, monkeypatch, capsys):
    from unet_keras import make_records

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["make_records", "source.kind=coco", *arguments])
        with pytest.raises(SystemExit) as stop:
            make_records.main()
        return stop.value.code, capsys.readouterr().err

    folders = ["source.images=d/images", "source.annotations=d/annotations", "records.workers=1"]
    with serving(published) as web:
        where = [*folders, "source.download=true", f"source.url={web.url}/set"]
        status, text = run(*where, "source.url=" + web.url)
        assert (status, text.count("\n")) == (2, 1)
        assert "404 Not Found" in text
        assert run(*where, "records.path=r") == (0, "")
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert sum(split["images"] for split in manifest["splits"].values()) == 4
    assert not {"download", "url", "sha256"} & set(manifest["configuration"])
    before = (tmp_path / "r" / "manifest.json").stat().st_mtime_ns
    assert run(*folders, "records.path=r") == (0, "")  # without a server, nothing to do
    assert (tmp_path / "r" / "manifest.json").stat().st_mtime_ns == before


def test_the_official_address_is_the_default():
    from unet_keras.config import Config

    assert Config().source.url.startswith("https://livecell-dataset.s3.eu-central-1.amazonaws.com/")
    assert set(download.ANNOTATIONS.values()) == {
        "livecell_coco_train.json",
        "livecell_coco_val.json",
        "livecell_coco_test.json",
    }
