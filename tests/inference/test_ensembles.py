"""What may be averaged, and what means different things."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_keras import config as configuration
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import predictor_of
from unet_keras.inference.averaging import Prediction
from unet_keras.predict import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def folders(records: Path, bright_file: Path, tmp_path: Path) -> list[Path]:
    """Two runs that learned cells, and one that learned their outlines too."""
    made = []
    for name, kind in (("a", "cells"), ("b", "cells"), ("other", "cells_and_borders")):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(bright_file, folder / "model.keras")
        shutil.copy(records / "manifest.json", folder)
        (folder / "config.yaml").write_text(
            f"targets: {{kind: {kind}}}\nevaluate: {{method: watershed}}\n"
        )
        made.append(folder)
    return made


def test_a_network_that_learned_something_else_is_refused_by_predict(
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b, other = map(str, folders)
    output, image = tmp_path / "out", tmp_path / "image.png"
    Image.new("L", (64, 64)).save(image)
    given = [a, str(image), "--ensemble", b, "--ensemble", other, "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["predict", *given])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {other} learned targets.kind=cells_and_borders, not cells")
    assert not output.exists()


@pytest.fixture
def wide(folders: list[Path]) -> Path:
    """A run that has learned 16-bit images."""
    manifest = json.loads((folders[1] / "manifest.json").read_text())
    (folders[1] / "manifest.json").write_text(json.dumps({**manifest, "image_dtype": "uint16"}))
    return folders[1]


@pytest.mark.parametrize("turned", [False, True])
def test_networks_of_other_grey_values_are_refused_by_predict(
    folders: list[Path], wide: Path, run: Run, tmp_path: Path, turned: bool
) -> None:
    pair = (wide, folders[0]) if turned else (folders[0], wide)
    Image.new("L", (64, 64)).save(tmp_path / "image.png")
    given = (tmp_path / "image.png", "--ensemble", pair[1], "--output", tmp_path / "out")
    status, text = run(pair[0], *given)
    assert status == 2
    wanted, other = ("uint8", "uint16") if turned else ("uint16", "uint8")
    assert f"{pair[1]} was trained on {wanted} images, not {other}" in text
    assert run(pair[0], *given, "--normalize")[0] == 0


def test_what_one_network_cannot_take_is_refused_for_all(
    folders: list[Path], run: Run, tmp_path: Path
) -> None:
    """One that normalizes takes 16 bits, the other of the ensemble does not."""
    image = tmp_path / "image.png"
    Image.fromarray(np.full((64, 64), 3000, np.uint16)).save(image)
    given = (image, "--ensemble", folders[2], "--output", tmp_path / "out")
    status, text = run("default", *given)
    assert status == 1
    assert "image.png has uint16 values from 3000 to 3000" in text


def test_networks_of_other_grey_values_are_refused_by_evaluate(wide: Path) -> None:
    config = configuration.load(None, [f"evaluate.ensemble=[{wide}]"])
    predictor_of(None, config, "uint16")
    with pytest.raises(InputError, match="was trained on uint16 images, not uint8"):
        predictor_of(None, config, "uint8")


def test_it_is_refused_by_evaluate(folders: list[Path]) -> None:
    _, b, other = folders

    def averaged(kind: str, run: Path) -> Prediction:
        asked = [f"targets.kind={kind}", f"evaluate.ensemble=[{run}]", "evaluate.method=watershed"]
        return predictor_of(None, configuration.load(None, asked))

    averaged("cells", b)
    averaged("cells_and_borders", other)
    with pytest.raises(
        InputError, match=r"other learned targets\.kind=cells_and_borders, not cells"
    ):
        averaged("cells", other)
