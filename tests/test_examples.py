"""The scripts in examples/ run as they stand there and do what their heads say."""

import importlib.util
import runpy
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from unet_keras import load_model, paint_labels
from unet_keras.model.pretrained import resolve
from unet_keras.records.manifest import read_manifest
from unet_keras.sources.grouping import group_of
from unet_keras.sources.synthetic import synthetic_references

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "demo.py")


def main_of(name: str) -> Callable:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def write_pairs(folder: Path, wells: list[str]) -> tuple[str, str]:
    """Write an image and a label map for each well, and return their folders."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    references = synthetic_references({"train": len(wells)}, seed=4, size=(96, 96))
    for number, (reference, well) in enumerate(zip(references, wells, strict=True)):
        sample, name = reference.load(), f"cells_{well}_{number}.png"
        labels = paint_labels(sample.outlines, sample.size).astype(np.uint16)
        Image.fromarray(sample.image).save(folder / "images" / name)
        Image.fromarray(labels).save(folder / "masks" / name)
    return str(folder / "images"), str(folder / "masks")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= 40


def run_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *given: str
) -> tuple[int, list[str]]:
    """Run a script as a user does; return its exit status and the lines on standard error."""
    monkeypatch.setattr("sys.argv", [f"{name}.py", *given])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return int(stop.value.code or 0), capsys.readouterr().err.strip().splitlines()


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("fit", ["nowhere"], "error: There are no records in nowhere"),
        ("fit", ["nowhere", "0"], "error: EPOCHS=0 must be a whole number"),
        ("fit", ["nowhere", "1", "2"], "fit.py: error: unrecognized arguments: 2"),
        ("custom_model", ["nowhere"], "error: There are no records in nowhere"),
        ("stock_losses", ["nowhere", "many"], "error: EPOCHS=many must be"),
        ("fine_tune", [], "fine_tune.py: error: the following arguments are required: IMAGES"),
        ("fine_tune", ["nowhere", "nowhere"], "error: "),
        ("cross_validation", ["nowhere"], "cross_validation.py: error: the following arguments"),
        ("cross_validation", ["nowhere", "nowhere"], "error: "),
        ("cross_validation", ["a", "b", "x=y"], "error: FOLDS=x=y must be a whole number"),
        ("cross_validation", ["a", "b", "--group", "("], "error: source.group_pattern='('"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    given: list[str],
    told: str,
) -> None:
    status, lines = run_example(name, monkeypatch, capsys, *given)
    assert status == 2
    assert lines[-1].startswith(told)
    assert len(lines) == 1 or lines[0].startswith("usage: ")
    assert not list(workplace.iterdir())


def test_folds_keep_together_what_the_pattern_says(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_pairs(workplace / "own", ["1", "2", "3"])
    seen: list[list[str]] = []

    def stop(groups: list[str], _: int) -> None:
        seen.append(groups)
        raise KeyboardInterrupt

    monkeypatch.setattr("unet_keras.sources.grouping.grouped_folds", stop)
    pattern = ["--group", r"_(\d+)\."]
    with monkeypatch.context() as patch:
        patch.setattr("atexit.register", lambda *_: None)  # else Ctrl-C would stay ignored
        run_example("cross_validation", monkeypatch, capsys, images, masks, "3", *pattern)
    assert [sorted(groups) for groups in seen] == [["0", "1", "2"]]


def test_one_pair_is_too_few_to_fine_tune_with(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = write_pairs(workplace / "own", ["A1"])
    status, lines = run_example("fine_tune", monkeypatch, capsys, *pair)
    assert status == 2
    assert lines[-1].endswith("no image to choose the epoch by: give two pairs or more")
    assert not Path("runs").exists()


@pytest.mark.slow
def test_plain_fit(records: Path, workplace: Path) -> None:
    main_of("fit")(str(records), 1)
    model = keras.saving.load_model(workplace / "fit.keras")
    assert model.input_shape == (None, None, None, 1)


@pytest.mark.slow
def test_stock_losses(records: Path, workplace: Path) -> None:
    main_of("stock_losses")(str(records), 1)


@pytest.mark.slow
def test_a_custom_model_learns_from_our_losses(records: Path, workplace: Path) -> None:
    losses = main_of("custom_model")(str(records), 3)
    assert losses[2] < losses[0]


@pytest.mark.slow
def test_fine_tuning_the_network_that_ships_on_five_pairs(workplace: Path) -> None:
    images, masks = write_pairs(workplace / "own", ["A1", "A2", "A3", "B1", "B2"])
    small = [
        "pipeline.crop=[64, 64]", "pipeline.batch_size=2", "augment.jit_compile=false",
        "train.steps_per_epoch=2", "train.phases=[{epochs: 1}]", "train.panel_epochs=0",
        "train.precision=float32", "train.optimizer.average=0",
    ]  # fmt: skip
    before, after = main_of("fine_tune")(images, masks, *small)
    manifest = read_manifest("records/fine_tune")
    assert {split: part.images for split, part in manifest.splits.items()} == {
        "train": 4, "val": 1, "test": 0,
    }  # fmt: skip
    # Synthetic cells it knows already; two steps do not make it forget them.
    assert before > 0.3
    assert after > 0.1
    shipped = resolve("default") / "model.keras"
    start, end = (load_model(file) for file in (shipped, "runs/fine_tune/model.keras"))
    pairs = zip(start.get_weights(), end.get_weights(), strict=True)
    assert not all(np.array_equal(one, two) for one, two in pairs)
    with Image.open("fine_tuned.png") as picture:
        assert picture.width > 2 * 96


@pytest.mark.slow
def test_cross_validation_scores_every_image_once_and_parts_no_well(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wells = ["A1", "A1", "A2", "A2", "B1", "C12", "C12"]
    images, masks = write_pairs(workplace / "own", wells)
    small = [
        "pipeline.crop=[32, 32]", "pipeline.batch_size=2", "model.base_filters=4", "model.depth=1",
        "augment.jit_compile=false", "train.steps_per_epoch=2", "train.panel_epochs=0",
        "train.phases=[{epochs: 1}]", "records.workers=1",
    ]  # fmt: skip
    scores = main_of("cross_validation")(images, masks, 3, *small)
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
    tested = []
    for fold in range(3):
        splits = read_manifest(f"records/fold_{fold}").splits
        groups = [set(part.groups) for part in splits.values()]
        assert all(groups), "each split has a well"
        assert sum(map(len, groups)) == len(set().union(*groups)), "no well is in two splits"
        tested += sorted(splits["test"].groups)
        assert sum(part.images for part in splits.values()) == len(wells)
    assert sorted(tested) == sorted(set(wells))
    assert group_of("cells_C12_5.png", r"_([A-P]\d+)_") == "C12"
    assert f"mean: {np.mean(scores):.3f}" in capsys.readouterr().out
    # Started again, nothing is trained: the same scores at once.
    assert main_of("cross_validation")(images, masks, 3, *small) == scores
