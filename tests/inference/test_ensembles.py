"""What may be averaged, and what means different things."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from unet_keras import config as configuration
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import predictor_of
from unet_keras.inference.averaging import Prediction
from unet_keras.predict import main


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
