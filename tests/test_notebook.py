"""The notebook runs from its first cell to its last, as someone without data starts it."""

import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of the kernel's machinery
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "examples").mkdir()
    notebook = nbformat.read(ROOT / "examples" / "livecell.ipynb", as_version=4)
    settings = next(cell for cell in notebook.cells if "STEPS = 600" in cell.source)
    settings.source = settings.source.replace("STEPS = 600", "STEPS = 24")
    place = {"metadata": {"path": str(tmp_path / "examples")}}
    nbclient.NotebookClient(notebook, timeout=1200, resources=place).execute()
    work = tmp_path / "runs" / "notebook"
    counts = (work / "results" / "counts.csv").read_text().splitlines()
    assert len(counts) == 1 + 8
    assert (work / "results" / "growth.png").exists()
    assert (work / "run" / "evaluation" / "report.html").exists()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3


def test_an_image_is_paired_as_training_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "livecell.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    (cell,) = [source for source in sources if source.startswith("import shutil")]
    places = {"IMAGES": Path("images"), "MASKS": Path("masks"), "WORK": Path("work")}
    for place in places.values():
        place.mkdir()
    for name in ("cell_1", "cell_2", "cell_10", "cell_3"):
        (Path("images") / f"{name}.tif").write_text(name)
    for name in ("cell_2.png", "cell_10_mask.png", "mask_cell_3.png"):
        (Path("masks") / name).write_text(name)
    exec(cell, {**places, "STEPS": 24, "run": lambda *_: None})
    assert {path.name for path in Path("work/pairs").iterdir()} == {
        "cell_2.tif", "cell_3.tif", "cell_10.tif",
    }  # fmt: skip
