"""What the predict command says of images that it cannot use, and of what it would spoil."""

import numpy as np
import pytest
from PIL import Image

from tests.inference.test_predict import rows


@pytest.fixture
def folder(rng, tmp_path):
    """A folder of one image, `a.png`."""
    path = tmp_path / "images"
    path.mkdir()
    Image.fromarray(rng.integers(0, 255, (40, 50)).astype(np.uint8)).save(path / "a.png")
    return path


def test_a_tiff_without_its_end_is_skipped(run, bright_file, folder, rng, tmp_path):
    image = Image.fromarray(rng.integers(0, 255, (60, 80)).astype(np.uint8))
    image.save(folder / "b.tif", compression="tiff_lzw")
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:-1000])
    status, text = run(bright_file, folder, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert text.count("skipped") == 1
    assert "b.tif is cut off" in text
    assert len(rows(tmp_path / "out/counts.csv")) == 1


def test_pages_of_a_cut_stack_are_told_apart(run, bright_file, rng, tmp_path):
    path = tmp_path / "s.tif"
    pages = [Image.fromarray(rng.integers(0, 255, (60, 80)).astype(np.uint8)) for _ in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    path.write_bytes(path.read_bytes()[: 2 * 60 * 80 + 500])
    status, text = run(bright_file, path, "--output", tmp_path / "out", "--write", "csv")
    assert status == 1
    assert "skipped: s.tif page 2: " in text
    assert len(rows(tmp_path / "out/counts.csv")) == 2
