"""Experiments keep what they found, do nothing twice, and tell one definition from another."""

import importlib
import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
SCORES = {"plain": {"a.png": {"sa": 0.25}}}


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("trials")
    monkeypatch.setattr(module, "WORK", tmp_path / "work")
    return module


@pytest.fixture
def started(trials: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Requests of trainings, which end at once, each with one step more."""
    requests: list[dict] = []

    def end_at_once(command: list[str], **_: object) -> SimpleNamespace:
        requests.append(json.loads(command[-1]))
        said = json.dumps({"steps": len(requests), "scores": SCORES})
        return SimpleNamespace(returncode=0, stdout=f"noise\n{said}\n")

    monkeypatch.setattr(trials.subprocess, "run", end_at_once)
    return requests


def a_trial(trials: ModuleType, *overrides: str) -> object:
    return trials.Trial(
        "configs/livecell_sample.yaml", overrides, ("a.png", "b.png"), ("b.png",), 8.0, {}
    )


def test_what_is_known_is_not_done_again(
    trials: ModuleType, started: list[dict], tmp_path: Path
) -> None:
    trial, file = a_trial(trials), tmp_path / "results.json"
    first = trials.run(trial, "one", file, [])
    assert trials.run(trial, "one", file, []) == first
    assert trials.run(trial, "in another table", file, []) == first
    assert len(started) == 1
    kept = json.loads(file.read_text())
    assert kept == {"one": first, "in another table": first}
    assert first["definition"] == trial.definition()
    assert trials.Trial.defined(first["definition"]) == trial


def test_any_other_definition_is_done_anew(
    trials: ModuleType, started: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, file = a_trial(trials, "model.depth=2"), tmp_path / "results.json"
    trials.run(trial, "one", file, [])
    network = tmp_path / "model.keras"
    network.write_bytes(b"another")
    others = [
        replace(trial, seed=1),
        replace(trial, images=("a.png", "b.png", "c.png")),
        replace(trial, overrides=("model.depth=3",)),
        replace(trial, phases=((1.0, "augment: none"),)),
    ]
    for count, other in enumerate(others, start=2):
        assert trials.run(other, "one", file, [])["steps"] == count
    # What the YAML file says counts as much as an override; where images lie does not.
    config = tmp_path / "changed.yaml"
    text = (ROOT / trial.config).read_text()
    for old, new, differs in (
        ("border_weight: 2", "border_weight: 3", True),
        ("images: data/livecell_sample/images", "images: elsewhere", False),
    ):
        assert old in text
        config.write_text(text.replace(old, new))
        changed = trials.settings_of(str(config), trial.overrides)
        assert (changed != trial.definition()["settings"]) == differs
    begun = replace(trial, overrides=("train.start_from=default",))
    before = begun.definition()
    monkeypatch.setattr(trials, "DEFAULT", network)
    assert begun.definition() != before


def test_a_network_that_is_gone_is_trained_again_and_its_result_stays(
    trials: ModuleType, started: list[dict], tmp_path: Path
) -> None:
    trial, file = a_trial(trials), tmp_path / "results.json"
    first = trials.run(trial, "one", file, [])
    assert trials.run(trial, "one", file, [], network=True) == first
    assert len(started) == 2
    assert json.loads(file.read_text())["one"] == first


def test_a_training_that_fails_changes_nothing(
    trials: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results.json"
    file.write_text('{"other": {}}')
    failed = SimpleNamespace(returncode=2, stdout="")
    monkeypatch.setattr(trials.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match="one ended with status 2"):
        trials.run(a_trial(trials), "one", file, [])
    assert json.loads(file.read_text()) == {"other": {}}


def _keep(path: Path, number: int) -> None:
    sys.path.insert(0, str(BENCHMARKS))
    importlib.import_module("results_file").keep_result(path, f"result {number}", {"is": number})


def test_processes_that_write_to_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_keep, [path] * 40, range(40)))
    assert len(json.loads(path.read_text())) == 40


def test_what_is_told_to_end_takes_its_child_along(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import results_file, subprocess\n"
        "results_file.end_with_children()\n"
        "child = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "subprocess.run([sys.executable, '-c', child])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        parent.terminate()
        assert parent.wait(10) == 143
    for _ in range(100):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the child goes on")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["separation.py", "nowhere"], "nowhere has no folder images/"),
        (["claims.py", "--isbi", "nowhere"], "nowhere has no folder image/"),
        (["claims.py"], "there is nothing to train on"),
        (["claims.py", "--only", "membranes"], "the table 'membranes' needs --isbi DIR"),
        (["peers.py", "nowhere"], "nowhere has no folder images/"),
        (["default_model.py"], "give LIVECell's sample"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_two(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    script, *rest = arguments
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *rest],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tables")


def rows_of(page: str) -> dict[str, list[str]]:
    """The cells of each table's row behind its first one, by that."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_the_page_of_tables_is_what_the_results_say(tables: ModuleType) -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.renewed(page) == page


# Rows of README, as the results call them.
SEPARATED = {
    "cells": "cells",
    "cells, parted by a line where they touch": "cells, separated",
    "the same with border weights, w0 = 10 (2015)": "cells, separated, w0 = 10",
    "cells and distances to their outline": "cells, distance",
    "inside and outline as two classes": "borders",
    "the same and distances": "borders, distance",
    "inside and outline, 3 levels instead of 4": "borders, depth 3",
    "the same, outlines of two pixels": "borders of 2 pixels, depth 3",
    "the same, images interpolated by cubic splines": "borders of 2 pixels, cubic",
    "the same, starting from the network that ships": "borders of 2 pixels, cubic, pretrained",
}
PEERS = {
    "local variance, Otsu's threshold, watershed": "classical",
    "a network on the window around each pixel (33 x 33)": "windows_33",
    "the same, windows of 65 x 65": "windows_65",
    "this U-Net without skip connections": "no_skips",
    "MONAI's U-Net, its usual augmentation": "monai",
    "StarDist, its defaults": "stardist",
    "StarDist, its rate falling within the time": "stardist_short",
    "this U-Net": "unet",
    "this U-Net, starting from the network that ships": "unet_more",
}


def test_readme_says_of_separated_cells_what_was_measured(tables: ModuleType) -> None:
    readme = rows_of((ROOT / "README.md").read_text(encoding="utf-8"))
    results = json.loads(tables.separation.FILE.read_text())
    for row, choice in SEPARATED.items():
        plain, averaged = (
            tables.separation.best_scores(results[f"screen/{choice}"], averaged=averaged)[1]
            for averaged in (False, True)
        )
        means = plain["sa"], averaged["sa"], plain["sa50"], plain["dice"]
        assert readme[row] == [f"{mean:.2f}" for mean in means], row


def test_readme_says_of_peers_what_was_measured(tables: ModuleType) -> None:
    readme = rows_of((ROOT / "README.md").read_text(encoding="utf-8"))
    results = json.loads(tables.peers.FILE.read_text())
    for row, key in PEERS.items():
        seeds = [each for name, each in results.items() if name.startswith(f"{key}/")]
        means = [
            sum(each[score] for each in seeds) / len(seeds)
            for score in ("segmentation_accuracy", "segmentation_accuracy_50", "dice")
        ]
        seconds = sorted(each["image_cpu_seconds"] for each in seeds)[len(seeds) // 2]
        *scores, shown = readme[row]
        assert scores == [f"{mean:.2f}" for mean in means], row
        assert shown == f"{seconds:.{0 if seconds >= 10 else 2}f}", row


def test_folds_that_are_not_all_there_are_not_averaged(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = json.loads(tables.separation.FILE.read_text())
    choice = next(iter(rows_of(tables.tables()["folds"]).keys() & tables.separation.FINALISTS))
    results = {
        name: one
        for name, one in results.items()
        if not (name.startswith(f"folds/{choice}/") and name.endswith("/fold 2"))
    }
    fewer = tmp_path / "results.json"
    fewer.write_text(json.dumps(results))
    monkeypatch.setattr(tables.separation, "FILE", fewer)
    assert choice not in rows_of(tables.tables()["folds"])
