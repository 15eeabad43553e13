"""Growth curves: a line a well, told apart in the legend."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from unet_keras.inference import growth


@pytest.mark.parametrize(("wells", "shown"), [(1, 1), (6, 6), (16, 16), (17, 0)])
def test_the_legend_has_each_well_once_in_a_look_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wells: int, shown: int
) -> None:
    figures: list[Figure] = []

    def kept(*given: Any, **named: Any) -> Figure:
        figures.append(Figure(*given, **named))
        return figures[-1]

    monkeypatch.setattr(growth, "Figure", kept)
    counts = [
        {"image": f"X_Phase_A{well}_1_0{day}d00h00m_1.tif", "group": "X", "cells": well + day,
         "confluency": 0.5, "pixels": 100}
        for well, day in itertools.product(range(1, wells + 1), range(3))
    ]  # fmt: skip
    assert growth.write_growth(tmp_path, counts)
    (figure,) = figures
    entries = [
        (text.get_text(), line.get_color(), line.get_linestyle())
        for legend in figure.legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    ]
    assert [name for name, *_ in entries] == [f"X A{well + 1}" for well in range(shown)]
    assert len({tuple(look) for _, *look in entries}) == shown
    counts, confluency = (
        [(line.get_label(), line.get_color(), line.get_linestyle()) for line in axes.get_lines()]
        for axes in figure.axes
    )
    assert counts == confluency


def test_a_well_has_one_name_and_pages_of_stacks_have_no_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"group": "X", "cells": 3, "confluency": 0.5, "pixels": 100}
    names = ["X_C7_1_00d00h00m.tif", "X_c07_2_00d00h00m.tif"]
    stack = [f"X_C7_1_01d00h00m.tif page {page}" for page in range(3)]
    counts = [{**row, "image": name} for name in (*names, *stack)]
    (found,) = growth.growth_rows(counts)
    assert (found["well"], found["images"], found["hours"]) == ("C7", 2, 0)
    growth.write_growth(tmp_path, counts)
    assert "left out of growth over time: 3 pages of stacks" in caplog.text
