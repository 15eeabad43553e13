"""`make bench` and `make experiments` run what is there, all of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STARTED_BY_OTHERS = {"trials"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_benchmark_is_run_by_make():
    done = subprocess.run(
        ["make", "--dry-run", "bench", "experiments"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lists = re.findall(r"for name in ([\w ]+);", done.stdout)
    named = {name for names in lists for name in names.split()}
    named |= set(re.findall(r"benchmarks/(\w+)\.py", done.stdout))
    commands = {
        file.stem
        for file in (ROOT / "benchmarks").glob("*.py")
        if "__main__" in file.read_text(encoding="utf-8")
    }
    assert named == commands - STARTED_BY_OTHERS
