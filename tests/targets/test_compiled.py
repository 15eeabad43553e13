"""Where compiled code is kept, and what importing and compiling leave alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unet_keras

USE = """
import sys
import numpy as np
from unet_keras import border_map
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
labels = np.array([[1, 0, 2]], np.uint16)
assert abs(border_map(labels)[0, 1] - np.exp(-4 / 50)) < 1e-6
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_works_in_silence_where_nothing_can_be_kept(tmp_path: Path) -> None:
    # A file in place of a folder keeps everybody out, root too, as permissions would not.
    package = tmp_path / "unet_keras"
    for name in ("__init__.py", "errors.py", "targets"):
        source = Path(unet_keras.__file__).parent / name
        if source.is_dir():
            shutil.copytree(source, package / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            package.mkdir(exist_ok=True)
            shutil.copy(source, package / name)
    (package / "targets" / "__pycache__").touch()
    (tmp_path / "nowhere").touch()
    nowhere = str(tmp_path / "nowhere")
    done = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import unet_keras\n"
        f"assert unet_keras.__file__.startswith({str(tmp_path)!r})\n" + USE,
        XDG_CACHE_HOME=nowhere,
        HOME=nowhere,
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_compiles_nothing(tmp_path: Path) -> None:
    done = run(
        "import unet_keras.targets.borders, unet_keras.targets.distance",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.rglob("*.nb?"))
