import errno
import json
from pathlib import Path

import pytest

from tests.training.runs import small_config
from unet_keras import train
from unet_keras.errors import InputError
from unet_keras.records.manifest import read_manifest
from unet_keras.training import fit
from unet_keras.training.run_folder import make_run_folder, sole_user


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


def test_other_versions_are_told(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    claim(records, tmp_path / "run")
    (tmp_path / "run/versions.json").write_text('{"keras": "3.0.0"}')
    claim(records, tmp_path / "run")
    assert "was begun with another version: keras 3.0.0 -> " in caplog.text


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
