"""A mistake ends in one line that says what, where and how to mend it, and status 2."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.commanding import SMALL, Run, assert_one_line
from unet_keras.sources.synthetic import write_livecell_layout

COCO = ["source.kind=coco", "source.images=data/images", "source.annotations=data/annotations"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_livecell_layout(
        tmp_path / "data", {"train": 2, "val": 1, "test": 1}, seed=0, size=(96, 112)
    )
    return tmp_path / "data"


def annotations(data: Path, split: str) -> Path:
    return data / "annotations" / f"livecell_coco_{split}.json"


def test_a_missing_folder(run: Run) -> None:
    assert_one_line(run("make_records", *COCO, *SMALL), "data/images", "not a folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("ending", ["full disk", "closed pipe"])
def test_work_goes_on_when_nobody_takes_what_it_says(tmp_path: Path, ending: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "unet_keras.make_records", "source.counts=[2, 1, 1]",
             "source.size=[96, 112]", *SMALL],
            cwd=tmp_path, stdout=full if ending == "full disk" else write_end,
            stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    os.close(write_end)
    assert (tmp_path / "records" / "manifest.json").exists()
    told = "error: standard output takes no more (No space left on device); going on without it\n"
    assert done.stderr == (told if ending == "full disk" else "")


def test_a_file_that_is_no_json(run: Run, data: Path) -> None:
    annotations(data, "val").write_text("{ not json")
    assert_one_line(run("make_records", *COCO, *SMALL), "livecell_coco_val.json")


def test_json_that_is_not_coco(run: Run, data: Path) -> None:
    annotations(data, "val").write_text('{"pictures": []}')
    assert_one_line(run("make_records", *COCO, *SMALL), "livecell_coco_val.json", "images")


def test_an_image_that_is_not_there(run: Run, data: Path) -> None:
    gone = next(data.glob("images/*/*.tif"))
    gone.unlink()
    assert_one_line(run("make_records", *COCO, *SMALL), gone.name)


def test_an_image_of_another_size_leaves_earlier_records_as_they_were(
    run: Run, data: Path, tmp_path: Path
) -> None:
    assert run("make_records", *COCO, *SMALL)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "records").glob("*.*")}
    assert {path.suffix for path in before} >= {".json", ".tfrecord"}
    image = next(data.glob("images/livecell_test_images/*.tif"))
    Image.new("L", (50, 40)).save(image)
    assert_one_line(run("make_records", *COCO, *SMALL), image.name, "40", "50", "96", "112")
    assert before == {path: path.read_bytes() for path in before}


def test_a_truncated_image(run: Run, data: Path) -> None:
    image = next(data.glob("images/livecell_test_images/*.tif"))
    image.write_bytes(image.read_bytes()[:200])
    assert_one_line(run("make_records", *COCO, *SMALL), image.name)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_without_its_end(run: Run, data: Path, workers: int) -> None:
    path = next(data.glob("images/livecell_train_val_images/*.tif"))
    with Image.open(path) as image:
        image.load()
    image.save(path, compression="tiff_lzw")  # lists its pages last
    path.write_bytes(path.read_bytes()[:-1000])
    result = run("make_records", *COCO, "records.path=records", f"records.workers={workers}")
    assert_one_line(result, f"{path.name} is cut off")


def test_masks_need_a_folder(run: Run) -> None:
    assert_one_line(run("make_records", *SMALL, "--write-masks", ""), "--write-masks", "name one")
    assert not Path("records").exists()


def test_a_forgotten_config_replaces_no_records_of_another_source(run: Run, data: Path) -> None:
    assert run("make_records", *COCO, *SMALL)[0] == 0
    before = {path: path.read_bytes() for path in Path("records").iterdir()}
    result = run("make_records", *SMALL)
    assert_one_line(result, "holds records of source.kind=coco", "give the CONFIG")
    assert before == {path: path.read_bytes() for path in Path("records").iterdir()}
    assert run("make_records", *SMALL, "source.counts=[1, 0, 0]", "source.size=[96, 112]")[0] == 0


def test_a_forgotten_config_replaces_no_unfinished_conversion(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("unet_keras.records.writer.join_parts", interrupt)
        patch.setattr("signal.signal", lambda *_: None)  # else it would stay ignored
        assert run("make_records", *COCO, *SMALL)[0] == 130
    parts = list(Path("records/.conversion").glob("*.part"))
    assert parts
    result = run("make_records", *SMALL)
    assert_one_line(result, "holds an unfinished conversion of source.kind=coco")
    assert list(Path("records/.conversion").glob("*.part")) == parts
    assert run("make_records", *COCO, *SMALL)[0] == 0
    assert not Path("records/.conversion").exists()


def test_keys_and_types(run: Run) -> None:
    assert_one_line(run("make_records", "tran.run_dir=x"), "tran.run_dir=x", "Did you mean")
    assert_one_line(run("train", "pipeline.crop=[1, x]"), "pipeline.crop", "default")
    assert_one_line(run("train", "nowhere.yaml"), "nowhere.yaml")


def test_a_value_that_only_the_records_can_refute(run: Run, records: Path) -> None:
    result = run("train", f"records.path={records}", "targets.sigma_pixels=3", "train.run_dir=r")
    assert_one_line(result, "sigma_pixels=5.0", "the config says 3.0", "run make_records")
    assert not Path("r").exists()


def test_a_tile_that_does_not_fit_the_valid_network(run: Run, records: Path) -> None:
    valid = ["model.padding=valid", f"records.path={records}", "train.run_dir=r"]
    result = run("train", *valid, "pipeline.crop=[572, 570]")
    assert_one_line(result, "pipeline.crop=(572, 570)", "depth 4", "Nearest: 556 and 572")
    assert_one_line(run("train", *valid, "pipeline.crop=[90, 90]"), "Nearest: 188")
    result = run("train", *valid, "model.depth=2", "pipeline.crop=[66, 64]")
    assert_one_line(result, "66 pixels", "Nearest: 64 and 68")
    assert not Path("r").exists()


def test_records_of_another_schema_version(run: Run, records: Path, tmp_path: Path) -> None:
    shutil.copytree(records, tmp_path / "old")
    manifest = tmp_path / "old/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 99}))
    assert_one_line(run("train", "records.path=old"), "schema version 99", "version 1")


def test_a_run_folder_without_a_run(run: Run, tmp_path: Path) -> None:
    for command in ("evaluate", "export"):
        assert_one_line(run(command, "nowhere"), "nowhere", "no such run folder")
    (tmp_path / "empty").mkdir()
    assert_one_line(run("evaluate", "empty"), "empty", "config.yaml")


def test_a_run_folder_without_a_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/config.yaml").write_text("seed: 0\n")
    for command in ("evaluate", "export"):
        assert_one_line(run(command, "begun"), "begun/model.keras", "train")


def test_a_run_folder_that_is_something_else(run: Run, records: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    result = run("train", f"records.path={records}", "train.run_dir=mine")
    assert_one_line(result, "train.run_dir=mine", "is no run folder")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_scored_from_another_folder_says_where_its_records_are_looked_for(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done/config.yaml").write_text("records: {path: rec_own}\n")
    shutil.copy(Path(__file__).parent / "golden/old_model.keras", tmp_path / "done/model.keras")
    for more in ([], ["--tune"]):
        result = run("evaluate", "done", *more)
        assert_one_line(result, "records.path=rec_own", str(tmp_path), "give records.path=FOLDER")
    result = run("evaluate", "done", f"records.path={tmp_path / 'moved'}")
    assert_one_line(result, "there are no records: give records.path=FOLDER")
    assert not (tmp_path / "done/evaluation").exists()


def test_an_export_into_a_folder_that_takes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done/config.yaml").write_text("seed: 0\n")
    shutil.copy(Path(__file__).parent / "golden/old_model.keras", tmp_path / "done/model.keras")
    make = tempfile.NamedTemporaryFile

    def refuse(*given: Any, **named: Any) -> Any:
        if named.get("dir") == Path("done"):
            raise PermissionError(13, "Permission denied", "done/of-another-name")
        return make(*given, **named)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    result = run("export", "done")
    assert_one_line(result, "done cannot be written (Permission denied): make it writable")


@pytest.mark.slow
def test_training_that_converts_first_says_nothing_but_its_error(tmp_path: Path) -> None:
    """TensorFlow has much to say where it is imported without care, and some of it once used."""
    done = subprocess.run(
        [sys.executable, "-m", "unet_keras.train", "source.counts=[2, 1, 1]",
         "source.size=[96, 112]", *SMALL, "train.run_dir=run", "model.base_filters=4",
         "train.start_from=default"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "records" / "manifest.json").exists()
    assert_one_line((done.returncode, done.stderr.strip()), "default is another network")


def test_predicting_with_what_is_no_model_or_no_image(run: Run, data: Path) -> None:
    images = str(data / "images/livecell_test_images")
    assert_one_line(run("predict", "nowhere.keras", images, "--output", "out"), "nowhere.keras")
    assert_one_line(run("predict", str(data), images, "--output", "out"), "config.yaml")
    (data / "no.keras").write_text("no model")
    assert_one_line(run("predict", str(data / "no.keras"), images, "--output", "o"), "no.keras")
    assert_one_line(run("predict", "x.keras", "nowhere", "--output", "out"), "nowhere")
    assert_one_line(run("predict", "x.keras", "no/*.tif", "--output", "out"), "no/*.tif")
    assert not Path("out").exists()


def flip_a_bit(records: Path, pattern: str = "*.tfrecord") -> Path:
    shard = sorted(records.glob(pattern))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return shard


def test_verify_names_the_damaged_file(run: Run, records: Path, tmp_path: Path) -> None:
    shutil.copytree(records, tmp_path / "copy")
    assert run("make_records", "--verify", "copy")[0] == 0
    flip_a_bit(tmp_path / "copy")
    assert run("make_records", "--verify", "copy")[0] == 1


def test_a_preview_of_damaged_records_names_the_shard(
    run: Run, records: Path, tmp_path: Path
) -> None:
    shutil.copytree(records, tmp_path / "copy")
    shard = flip_a_bit(tmp_path / "copy", "train-*")
    arguments = ["records.path=copy", "train.run_dir=r", "pipeline.crop=[64, 64]"]
    arguments += ["augment.jit_compile=false"]  # compiling, it logs a line of its own
    status, text = run("train", *arguments, "--preview", "8")
    last = text.splitlines()[-1]  # TensorFlow may have logged before
    assert_one_line((status, last), shard.name, "record", "make the records again")
    assert not list(tmp_path.glob("*.png"))


def command_output(body: str, **named: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a single expression in a process of its own."""
    code = (
        "import argparse, logging\n"
        "from unet_keras.command import run\n"
        "def stop(_):\n    raise KeyboardInterrupt\n"
        f"run(argparse.ArgumentParser(), {body})"
    )
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"} | named
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_names_that_are_no_text_can_be_told() -> None:
    done = command_output("lambda _: logging.getLogger().info('caf\\udce9.png left out')")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "caf\\udce9.png left out\n"


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("form", ["{}", "lambda _: {}"])
def test_only_what_goes_on_is_said_to(*, resumes: bool, form: str) -> None:
    done = command_output(f"stop, resumes={form.format(resumes)}")
    assert done.returncode == 130
    assert ("goes on from here" in done.stderr) == resumes
