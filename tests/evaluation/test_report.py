"""The page stands alone, its links lead somewhere, and the files beside it are whole."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from unet_keras.evaluation.charts import histogram, lines, scatter
from unet_keras.evaluation.report import (
    COLUMNS,
    markdown_table,
    membrane_table,
    render_report,
    write_metrics,
    write_report,
)
from unet_keras.evaluation.summary import Evaluation
from unet_keras.records.report import data_uri

from .made_cases import made_case


class Page(HTMLParser):
    """Collects attributes, and checks that what is opened is closed."""

    VOID = ("meta", "img", "link", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag, attribute):
        return [
            found[attribute] for name, found in self.found if name == tag and attribute in found
        ]


@pytest.fixture(scope="module")
def evaluation():
    evaluation = Evaluation(examples=2)
    for seed in range(6):
        case = made_case(seed, size=(48, 64), cells=6)
        evaluation.add(**{**case, "file_name": f"a <b> & {seed}.tif"})
    return evaluation


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "evaluation"
    details = {"split": "test", "model": "run/<x>"}
    path = write_report(folder, evaluation.results(), evaluation.examples, details=details)
    assert path == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_folder_holds_what_is_promised(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "metrics.json", "report.html", "table.md",
    ]  # fmt: skip


def test_metrics_come_back(folder, evaluation):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.pop("details") == {"split": "test", "model": "run/<x>"}
    assert metrics == evaluation.results()


def test_the_page_loads_nothing(folder, page):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?:)?//[a-z]", re.sub(r"data:[^\"]*", "", text))
    assert "@import" not in text
    assert "url(" not in text
    assert all(source.startswith("data:image/webp;base64,") for source in page.all("img", "src"))
    assert not [tag for tag, found in page.found if tag in ("link", "iframe", "object")]
    assert all("src" not in found for tag, found in page.found if tag == "script")


def test_every_link_leads_to_a_place_of_the_page(page):
    places = [found["id"] for _, found in page.found if "id" in found]
    assert len(places) == len(set(places))
    targets = page.all("a", "href")
    assert targets
    assert all(target[0] == "#" and target[1:] in places for target in targets)


def test_the_page_shows_best_and_worst_with_all_pictures(page):
    # two best and two worst, six pictures each, every one described
    assert len(page.all("img", "src")) == 4 * 6
    assert all(" of a <b> & " in text for text in page.all("img", "alt"))


def test_names_are_escaped(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "a <b>" not in text
    assert "a &lt;b&gt; &amp; 3.tif" in text
    assert "run/&lt;x&gt;" in text


def test_cell_types_keep_their_spelling(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "text-transform" not in text
    assert text.count("<th>flat</th>") == 3


def test_every_score_that_the_definitions_explain_is_shown(folder, evaluation):
    text = (folder / "report.html").read_text(encoding="utf-8")
    overall = evaluation.results()["overall"]
    shown = {}
    for table in re.findall(r'<div class="scroll block".*?</div>', text, re.S):
        heads = re.findall(r"<th>([^<]*)</th>", table.split("<tbody>")[0])
        row = re.search(r'<tr class="all">.*?</tr>', table, re.S)[0]
        shown |= zip(heads[1:], re.findall(r"<td>([^<]*)</td>", row), strict=True)
    for name, title in COLUMNS.items():
        value = overall[name]
        assert shown[title] == ("\N{EN DASH}" if value is None else f"{value:.3f}"), title
    explained = " ".join(re.findall(r"<dt>([^<]*)</dt>", text.split('id="terms"')[1]))
    assert all(title in explained for title in COLUMNS.values())
    for name in ("ar_100", "ar_500"):
        assert f"an image</td><td></td><td>{overall[name]:.3f}</td>" in text
    heads = re.findall(r"<button>([^<]*)</button>", text)
    assert {"Accuracy", "Pixel error"} <= set(heads)


def test_every_image_has_a_row(page):
    rows = [found["id"] for tag, found in page.found if tag == "tr" and "id" in found]
    assert rows == [f"image-{number}" for number in range(6)]


def test_the_page_works_without_pictures_and_with_one_image():
    evaluation = Evaluation(examples=0)
    evaluation.add(**made_case(0, size=(20, 30), cells=0, error=0.0))
    page = Page(render_report(evaluation.results()))
    assert not page.all("img", "src")


def test_markdown_table(evaluation):
    results = evaluation.results()
    rows = markdown_table(results).splitlines()
    assert [row.split("|")[1].strip() for row in rows] == ["", "---", "all", "flat", "round"]
    assert len({row.count("|") for row in rows}) == 1
    assert f"{results['groups']['flat']['dice']:.3f}" in rows[3]
    assert "| Pixel error |" in rows[0]
    results["overall"]["ap"] = None
    assert markdown_table(results, ["dice", "ap"]).splitlines()[2].endswith("\N{EN DASH} |")
    assert set(COLUMNS) <= set(results["overall"])


def test_bars_in_names_end_no_cell(evaluation):
    results = evaluation.results()
    results["groups"] = {"a|b": results["groups"]["flat"], "c": results["groups"]["round"]}
    _, _, _, first, second = markdown_table(results).splitlines()
    assert first.startswith(r"| a\|b | 3 |")
    assert first.replace(r"\|", "").count("|") == second.count("|")


def test_membrane_scores_are_shown_where_they_are(evaluation, tmp_path):
    assert "V_rand" not in render_report(evaluation.results())
    assert membrane_table(evaluation.results()) == ""
    scored = Evaluation(examples=0, membranes=True)
    scored.add(**made_case(0, size=(40, 50), cells=6))
    results = scored.results()
    write_report(tmp_path, results)
    value = f"{results['membranes']['best']['v_rand']:.5f}"
    assert value in (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = (tmp_path / "table.md").read_text(encoding="utf-8").split("\n\n")[1].splitlines()
    assert len(rows) == 2 + 6
    assert len({row.count("|") for row in rows}) == 1
    assert value in rows[2]


def test_the_report_says_what_each_kind_of_truth_costs(evaluation):
    results = evaluation.results()
    reached = results["overall"]["ceiling_foreground"]
    row = f"<td>{reached:.3f}</td><td>{1 - reached:.3f}</td>"
    assert row in render_report(results)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_pictures_are_embedded_whole():
    picture = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    head, data = data_uri(picture).split(",")
    assert head == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (40, 30)


def test_histogram_has_a_bar_for_every_interval():
    svg = ElementTree.fromstring(histogram([0.0, 0.52, 0.53, 1.0], label="Dice", bins=10))
    titles = [bar.find("title").text for bar in svg.iter("rect")]
    assert titles[0] == "0.00 to 0.10: 1 images"
    assert titles[5] == "0.50 to 0.60: 2 images"
    assert titles[9] == "0.90 to 1.00: 1 images"
    heights = [float(bar.get("height")) for bar in svg.iter("rect")]
    assert heights[5] == pytest.approx(2 * heights[0], abs=0.11)
    ElementTree.fromstring(histogram([], label="Dice"))


def test_lines_run_from_the_lower_left_to_the_upper_right():
    svg = ElementTree.fromstring(
        lines({"a & b": [(0, 0), (1, 1)], "c": [(0, 1)]}, labels=("x", "y"), mark=0.5, dots=True)
    )
    first = next(line for line in svg.iter("polyline") if line.get("class") == "s0 line")
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in first.get("points").split())
    assert x1 > x0
    assert y1 < y0
    assert "a & b" in [text.text for text in svg.iter("text")]


@pytest.mark.parametrize(("most", "top"), [(0, 4), (3, 4), (5, 8), (97, 120), (3000, 4000)])
def test_scatter_has_whole_ticks(most, top):
    svg = ElementTree.fromstring(scatter([(most, 1, "<a>")], labels=("true", "predicted")))
    ticks = [text.text for text in svg.iter("text") if text.get("text-anchor") == "end"]
    assert [float(tick) for tick in ticks] == [top * share / 4 for share in range(5)]
    assert all(float(tick).is_integer() for tick in ticks)
    assert next(svg.iter("title")).text == f"<a>: {most}, 1"


def test_one_group_is_not_listed_beside_all():
    evaluation = Evaluation(examples=0)
    for seed in (1, 3):
        evaluation.add(**made_case(seed))
    results = evaluation.results()
    assert markdown_table(results).count("\n") == 3
    rows = re.findall(r"<tr[^>]*><th>([^<]*)</th>", render_report(results))
    assert "All" in rows
    assert "round" not in rows


def test_masks_without_probabilities_have_no_charts_of_them():
    evaluation, case = Evaluation(membranes=True), made_case(1)
    evaluation.add(**{**case, "probability": (case["predicted_labels"] > 0).astype(np.float32)})
    page = render_report(evaluation.results())
    assert "Segmentation accuracy by IoU" in page
    for absent in ("Calibration", "the threshold in use", "1 - Rand error"):
        assert absent not in page
    assert "Warping error" in page
