"""Two evaluated runs side by side."""

import json

import pytest

from unet_keras.errors import InputError
from unet_keras.evaluation.comparison import compare_runs, comparison_table, read_metrics
from unet_keras.evaluation.intervals import compare
from unet_keras.evaluation.report import write_report
from unet_keras.evaluation.summary import Evaluation

from .made_cases import made_case


@pytest.fixture
def runs(tmp_path):
    """Two runs on the same images, the second one with fewer wrong pixels."""
    folders = []
    for name, error in (("rough", 0.2), ("smooth", 0.02)):
        evaluation = Evaluation(examples=0)
        for seed in range(6):
            evaluation.add(**made_case(seed, size=(40, 50), cells=6, error=error))
        folder = tmp_path / name
        write_report(folder / "evaluation", evaluation.results(), details={"split": "test"})
        folders.append(folder)
    return folders


def test_the_comparison_is_written_beside_the_second_run(runs):
    rough, smooth = runs
    table, path = compare_runs(rough, smooth)
    assert path == smooth / "evaluation" / "compared_with_rough.md"
    assert path.read_text(encoding="utf-8") == table
    written = json.loads(path.with_suffix(".json").read_text())
    assert written["scores"] == compare(read_metrics(rough), read_metrics(smooth))
    assert written["first"] == {"split": "test"}
    assert written["images"] == 6
    assert written["scores"]["dice"]["difference"] > 0.05


def test_the_table_marks_what_is_no_chance(runs):
    table, _ = compare_runs(*runs)
    head, _, *rows = lines = table.split("\n\n")[0].splitlines()
    assert "| rough | smooth |" in head
    assert len({row.count("|") for row in lines}) == 1
    dice = next(row for row in rows if row.startswith("| Dice |"))
    assert dice.endswith("| 100% | * |")
    same = compare(read_metrics(runs[0]), read_metrics(runs[0]))
    assert "*" not in comparison_table(same, ("a", "b"), images=6)


def test_bars_in_names_end_no_cell(runs):
    scores = compare(*map(read_metrics, runs))
    assert r"| a\|b | c |" in comparison_table(scores, ("a|b", "c"), images=6)


def test_few_images_prove_nothing(runs):
    scores = compare(*map(read_metrics, runs))
    assert "too few" not in comparison_table(scores, ("a", "b"), images=6)
    table = comparison_table(scores, ("a", "b"), images=5)
    assert "*" not in table
    assert table.endswith("\n\n5 images: too few to tell a difference from chance.\n")


def test_the_table_says_that_ap_is_not_compared(runs):
    table, _ = compare_runs(*runs)
    assert "| AP" not in table
    assert "AP, AR and AFNR rank the instances of all images together: they are not" in table


@pytest.mark.parametrize("outlines", [True, False])
def test_other_images_of_the_same_names_are_not_compared(tmp_path, outlines):
    """The second folder holds as many cells in its image of the same name, or one more."""
    cases = [
        made_case(seed, size=(40, 50), cells=cells) for seed, cells in ((0, 4), (1, 4), (1, 5))
    ]
    for number, case in enumerate(cases):
        evaluation = Evaluation(examples=0)
        given = {} if outlines else {"outlines": None}
        evaluation.add(**{**case, "file_name": "a.tif", **given})
        write_report(tmp_path / str(number), evaluation.results())
    for second, message in (
        (1, r"\(digest of them: [0-9a-f]{16} and"),
        (2, "true instances: 4 and 5"),
    ):
        with pytest.raises(InputError, match=rf"both called a\.tif \(?.*{message}") as said:
            compare_runs(tmp_path / "0", tmp_path / str(second))
        assert "\n" not in str(said.value)


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    other = tmp_path / "elsewhere" / "rough"
    other.parent.mkdir()
    runs[1].rename(other)
    table, _ = compare_runs(runs[0], other)
    assert f"| {runs[0]} | {other} |" in table


def test_evaluation_folders_and_files_are_taken_too(runs):
    expected, _ = compare_runs(*runs)
    places = [run / "evaluation" for run in runs]
    assert compare_runs(*places)[0] == expected
    assert compare_runs(*(place / "metrics.json" for place in places))[0] == expected


def test_what_was_not_evaluated_or_is_damaged_is_named(runs, tmp_path):
    with pytest.raises(InputError, match=r"new has no evaluation/metrics\.json; evaluate it"):
        compare_runs(runs[0], tmp_path / "new")
    file = runs[0] / "evaluation" / "metrics.json"
    for text in (
        "{", "[]", "{}", '{"images": 3}', '{"images": [1]}', '{"images": [{}]}',
        '{"images": [{"file_name": [1]}]}',
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(
            InputError, match=r"metrics\.json cannot be read as an evaluation \(.*; evaluate again"
        ):
            read_metrics(runs[0])


def test_scores_from_before_a_tuning_are_told(runs, caplog):
    rough, smooth = runs
    file = rough / "evaluation" / "metrics.json"
    metrics = read_metrics(rough)
    (rough / "tuned.yaml").write_text("evaluate:\n  threshold: 0.35\n  tile: 64\n")
    compare_runs(rough, smooth)
    (told,) = caplog.messages
    assert told.startswith(f"{file} is older than {rough / 'tuned.yaml'}; score it again: ")
    for threshold, warnings in ((0.5, 1), (0.35, 0)):
        caplog.clear()
        file.write_text(json.dumps({**metrics, "scored": {"threshold": threshold}}))
        for place in (rough, rough / "evaluation", file):
            compare_runs(smooth, place)
        assert len(caplog.messages) == 3 * warnings
    caplog.clear()
    file.write_text(json.dumps({**metrics, "scored": {"threshold": 0.5}}))
    compare_runs(smooth, rough)
    (told,) = caplog.messages
    assert "(threshold=0.5 instead of 0.35)" in told
    assert told.endswith(f"python -m unet_keras.evaluate {rough}")
