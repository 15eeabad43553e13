"""The README's snippets run as they stand there, and its commands exist."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_three_snippets() -> None:
    assert len(SNIPPETS) == 3


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(
    number: int, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(records, tmp_path / "records/synthetic")
    exec(compile(SNIPPETS[number], f"README, snippet {number + 1}", "exec"), {})


def test_its_commands_configs_and_pictures_exist() -> None:
    for name in set(re.findall(r"python -m unet_keras\.(\w+)", README)):
        assert (ROOT / "unet_keras" / f"{name}.py").exists(), name
    for name in set(re.findall(r"configs/\w+\.yaml|examples/\w+\.\w+", README)):
        assert (ROOT / name).exists(), name
