import errno
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import SMALL, small_config
from unet_keras import train
from unet_keras.config import save
from unet_keras.errors import InputError
from unet_keras.records.manifest import Split, read_manifest
from unet_keras.training import fit, planning
from unet_keras.training.run_folder import make_run_folder, sole_user
from unet_keras.training.state import RunState


def claim(records: Path, run: Path, *overrides: str) -> None:
    fit.claim_run_folder(run, small_config(records, run, *overrides), read_manifest(records))


def test_a_new_folder_is_claimed_with_all_that_says_what_it_is(
    records: Path, tmp_path: Path
) -> None:
    run = tmp_path / "deep" / "run"
    claim(records, run)
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml", "manifest.json", "versions.json",
    ]  # fmt: skip
    assert {"python", "tensorflow", "keras"} <= json.loads(
        (run / "versions.json").read_text()
    ).keys()
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    claim(records, run)


def test_an_empty_folder_may_be_there(records: Path, tmp_path: Path) -> None:
    claim(records, tmp_path)
    assert (tmp_path / "config.yaml").exists()


def test_another_config_is_refused_with_all_that_differs(records: Path, tmp_path: Path) -> None:
    claim(records, tmp_path / "run")
    with pytest.raises(InputError, match=r"another config \(loss.dice: 1.0 != 0.5; seed: 0 != 1\)"):
        claim(records, tmp_path / "run", "seed=1", "loss.dice=0.5")


def test_a_folder_that_was_moved_is_still_the_runs(records: Path, tmp_path: Path) -> None:
    claim(records, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    claim(records, tmp_path / "moved")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.class_weights=[1, 2, 3]", "must have 2 numbers, for background, class 1"),
        ("augment.device=GPU:7", "GPU:7 is not there"),
        ("train.phases.0.warmup_steps=100000", "its rate would never be reached"),
    ],
)
def test_a_config_that_does_not_fit_leaves_no_folder(
    records: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit.train(small_config(records, tmp_path / "run", override))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.padding=valid", "pipeline.crop=[570, 572]"], "Nearest: 556 and 572"),
        (["train.phases=[{steps: 5, warmup_steps: 9}]"], "but only 5 steps"),
    ],
)
def test_what_no_records_could_mend_is_told_before_they_are_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["train", f"records.path={tmp_path / 'records'}", *overrides])
    monkeypatch.setattr("unet_keras.records.conversion.convert", lambda _: pytest.fail("converts"))
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_something_else_in_the_way_is_left_alone(records: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(InputError, match="exists and is no run folder"):
            claim(records, place)
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_records_that_were_made_anew_are_noticed(records: Path, tmp_path: Path) -> None:
    claim(records, tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"mean": ', '"mean": 1'))
    with pytest.raises(InputError, match=r"is not what .*run was begun with"):
        claim(records, tmp_path / "run")


def test_a_difference_within_a_phase_is_named_alone(records: Path, tmp_path: Path) -> None:
    claim(records, tmp_path / "run")
    message = r"another config \(train.phases.1.epochs: 2 != 4\)"
    with pytest.raises(InputError, match=message):
        claim(records, tmp_path / "run", "train.phases.1.epochs=4")


def test_a_lost_copy_of_the_manifest_is_named(records: Path, tmp_path: Path) -> None:
    claim(records, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"run/manifest.json.* is missing or damaged: copy it"):
        claim(records, tmp_path / "run")


@pytest.mark.parametrize("content", ["{", "[3]", None])
def test_damaged_versions_do_not_end_a_run(
    records: Path, tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    claim(records, tmp_path / "run")
    (tmp_path / "run/versions.json").unlink()
    if content is not None:
        (tmp_path / "run/versions.json").write_text(content)
    claim(records, tmp_path / "run")
    assert "the versions it was begun with are unknown" in caplog.text


def test_who_comes_second_is_compared_with_who_was_faster(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = planning.make_run_folder

    def late(run: Path, *given: Any) -> None:
        monkeypatch.setattr(planning, "make_run_folder", make)
        claim(records, run, "seed=1")
        make(run, *given)

    monkeypatch.setattr(planning, "make_run_folder", late)
    with pytest.raises(InputError):
        claim(records, tmp_path / "run")
    monkeypatch.setattr(planning, "make_run_folder", make)
    with pytest.raises(InputError, match="seed: 1 != 0"):
        claim(records, tmp_path / "run")


def test_records_of_another_source_are_told(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = small_config(records, tmp_path / "run", "source.counts=[9, 1, 1]")
    made = replace(read_manifest(records), configuration={"counts": [5, 2, 3], "images": "there"})
    planning.check_records(made, asked, planning.plan(asked, 1))
    assert "made with source.counts=[5, 2, 3], not [9, 1, 1]" in caplog.text
    assert "source.images" not in caplog.text


def test_classes_that_are_learned_as_one_are_told(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = replace(read_manifest(records), num_classes=2)
    for kind in ("cells", "cells_and_borders"):
        asked = small_config(
            records, tmp_path / "run", f"targets.kind={kind}", "evaluate.method=watershed"
        )
        assert "classes" not in caplog.text
        planning.check_records(manifest, asked, planning.plan(asked, 1))
    assert "tells 2 classes of cells apart, which targets.kind=cells_and_borders" in caplog.text


def test_only_what_both_kinds_of_source_read_is_compared(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = ["source.kind=folders", "source.images=a", "source.annotations=b"]
    asked = small_config(records, tmp_path / "run", *places, "source.counts=[9, 1, 1]")
    values = {"kind": "folders", "images": "a", "annotations": "b", "counts": [5, 2, 3]}
    made = replace(read_manifest(records), configuration={**values, "split_by_group": True})
    planning.check_records(made, asked, planning.plan(asked, 1))
    assert "source.split_by_group=True, not False" in caplog.text
    assert "source.counts" not in caplog.text


def test_a_run_that_was_begun_goes_on_with_its_records(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = ["source.kind=folders", "source.images=a", "source.annotations=b"]
    asked = small_config(records, tmp_path / "run", *places)
    values = {"kind": "folders", "images": "c", "annotations": "b"}
    made = replace(read_manifest(records), configuration=values)
    planning.check_records(made, asked, planning.plan(asked, 1))  # `a` is on another machine
    Path("a").mkdir()
    with pytest.raises(InputError, match=r"source\.images=c .*source\.images=a: make"):
        planning.check_records(made, asked, planning.plan(asked, 1))
    fit.claim_run_folder(tmp_path / "run", asked, read_manifest(records))
    planning.check_records(made, asked, planning.plan(asked, 1))


def test_patience_needs_validation_images(records: Path, tmp_path: Path) -> None:
    asked = small_config(records, tmp_path / "run", "train.phases=[{epochs: 3, patience: 1}]")
    manifest = read_manifest(records)
    splits = manifest.splits | {"val": Split(0, 0, 0, (), {}, "")}
    with pytest.raises(InputError, match=r"no validation images.* has patience=1"):
        planning.check_records(replace(manifest, splits=splits), asked, planning.plan(asked, 1))


def test_records_without_training_images_claim_no_folder(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(records)
    splits = manifest.splits | {"train": Split(0, 0, 0, (), {}, "")}
    monkeypatch.setattr(fit, "read_manifest", lambda _: replace(manifest, splits=splits))
    with pytest.raises(InputError, match="has no image in split train: nothing could be learned"):
        fit.train(small_config(records, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_linked_folder_takes_a_run(records: Path, tmp_path: Path) -> None:
    """As to a larger disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    fit.claim_run_folder(
        tmp_path / "run", small_config(records, tmp_path / "run"), read_manifest(records)
    )
    assert (tmp_path / "disk" / "config.yaml").exists()
    assert (tmp_path / "run").is_symlink()


def test_a_finished_run_needs_no_records(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, gone = tmp_path / "run", tmp_path / "gone"
    asked = small_config(gone, run)
    fit.claim_run_folder(run, small_config(records, run), read_manifest(records))
    (run / "config.yaml").unlink()
    save(asked, run / "config.yaml")
    assert not fit.is_finished(asked)
    monkeypatch.setattr(fit, "newest_state", lambda _: RunState(phase=2))
    monkeypatch.setattr("unet_keras.records.conversion.convert", lambda _: pytest.fail("converts"))
    monkeypatch.setattr(
        "sys.argv", ["train", *SMALL, f"records.path={gone}", f"train.run_dir={run}"]
    )
    caplog.set_level("INFO")
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 0
    assert "run is finished" in caplog.text
    caplog.clear()
    monkeypatch.setattr("sys.argv", [*sys.argv, "--preview", "1"])
    with pytest.raises(pytest.fail.Exception, match="converts"):  # since it is asked for pictures
        train.main()
    assert "is finished" not in caplog.text
    with pytest.raises(
        InputError,
        match=rf"belongs to another config .* with train\.start_from={run} to go on from",
    ):
        fit.is_finished(small_config(gone, run, "seed=1"))


@pytest.mark.slow
def test_a_learning_rate_is_suggested_without_a_run(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = f"records.path={records}", f"train.run_dir={tmp_path / 'run'}"
    monkeypatch.setattr("sys.argv", ["train", *SMALL, *paths, "--find-lr"])
    caplog.set_level("INFO")
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 0
    assert re.search(r"suggestion:  train.phases.0.learning_rate=\d\.\de-\d\d", caplog.text)
    assert [path.name for path in tmp_path.iterdir()] == ["run-learning-rate.png"]


def test_other_versions_are_told(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    claim(records, tmp_path / "run")
    (tmp_path / "run/versions.json").write_text('{"keras": "3.0.0"}')
    claim(records, tmp_path / "run")
    assert "begun with another version: keras 3.0.0 -> " in caplog.text


def test_a_folder_that_could_not_be_made_whole_is_not_there(records: Path, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_run_folder(tmp_path / "run", records / "manifest.json", fail)
    assert list(tmp_path.iterdir()) == []
    claim(records, tmp_path / "run")


def test_a_full_disk_is_told_with_the_folder(records: Path, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/run'"):
        make_run_folder(tmp_path / "run", records / "manifest.json", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    with (
        sole_user(tmp_path),
        pytest.raises(InputError, match="is being trained by another process"),
        sole_user(tmp_path),
    ):
        pass
    with sole_user(tmp_path):
        pass
