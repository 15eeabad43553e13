"""Each column of the tables is explained to users, and none that is not written."""

import re
from pathlib import Path

import pytest

from unet_keras.inference import cells, growth
from unet_keras.settings.data import Source

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "unet_keras" / "inference" / "README.md"


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("cells.csv", cells.cell_columns(0.5, classes=True)),
        ("counts.csv", cells.COUNT_COLUMNS),
        ("growth.csv", growth.COLUMNS),
    ],
)
def test_a_table_is_documented_column_by_column(table: str, columns: list[str]) -> None:
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {table}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert [row[0].strip(" `") for row in rows] == list(columns)
    assert all(len(row) == 4 and row[1].strip() for row in rows), "name, meaning, unit, range"


def test_it_says_what_decides_the_group_and_the_readme_leads_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"`{Source.group_pattern}`" in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith("| `predict "))
    assert re.search(r"\]\(unet_keras/inference/README\.md\)", row)
