"""The report in a browser: it fits desktops and phones, works, and asks nobody for anything."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from unet_keras.evaluation.report import write_report
from unet_keras.evaluation.summary import Evaluation

from .made_cases import made_case

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with"),
]
# What the page finds out about itself, in a frame of the wanted width: windows are never as
# narrow as a phone.
PROBE = """
<script>
const refused = [];
addEventListener("securitypolicyviolation", event => refused.push(event.blockedURI));
if (location.hash === "#stranger") new Image().src = "https://example.org/stranger.png";
addEventListener("load", () => setTimeout(() => {
  const wide = [...document.querySelectorAll("body *")].filter(element => {
    if (element.closest(".scroll, nav, svg")) return false;
    return element.getBoundingClientRect().right > innerWidth + 0.5;
  });
  const cut = [...document.querySelectorAll("tbody th")].filter(
    element => element.scrollWidth > element.clientWidth);
  const legend = [...document.querySelectorAll("#fates + .legend i")].map(
    mark => [mark.parentElement.textContent.trim(), getComputedStyle(mark).backgroundColor]);
  const table = document.querySelector("table.sortable"), head = table.tHead.rows[0].cells[0];
  const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent.trim());
  head.querySelector("button").click();
  const rising = names();
  head.querySelector("button").click();
  location.hash = document.querySelector(".pictures a.open").getAttribute("href");
  const shown = document.querySelector(".pictures figure:target");
  parent.postMessage({
    width: innerWidth, scrolled: document.documentElement.scrollWidth,
    cut: cut.map(element => element.textContent), legend: Object.fromEntries(legend),
    wide: wide.map(element => element.outerHTML.slice(0, 80)),
    loaded: performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 40)),
    images: [...document.images].map(image => image.complete && image.naturalWidth > 0),
    rising: rising, falling: names(), enlarged: getComputedStyle(shown).position,
    text: parseFloat(getComputedStyle(document.querySelector("p")).fontSize),
    refused: refused,
  }, "*");
}, 100));
</script>
"""
FRAME = """<!doctype html>
<iframe src="probed.html{anchor}" style="width: {width}px; height: 900px; border: 0"></iframe>
<pre></pre><script>
addEventListener("message", event => {{
  document.querySelector("pre").textContent = JSON.stringify(event.data);
}});
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with long names, many groups, membranes and pictures."""
    evaluation = Evaluation(examples=2, membranes=True)
    for seed in range(8):
        case = made_case(seed, size=(120, 160), cells=10)
        name = f"BV2_Phase_C4_2_03d00h00m_with_a_long_name_{seed}.tif"
        evaluation.add(**{**case, "file_name": name, "group": f"cell type {seed % 4}"})
    folder = tmp_path_factory.mktemp("report")
    details = {"run": "/a/long/path/of/a/folder/that/has/no/spaces/" + "x" * 60, "split": "test"}
    write_report(folder, evaluation.results(), evaluation.examples, details=details)
    return folder / "report.html"


def browse(page: Path, profile: Path, *options: str) -> str:
    """Open a page and return its DOM."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
        "--disable-extensions", "--disable-default-apps",
        f"--user-data-dir={profile}", "--virtual-time-budget=20000", *options, page.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return result.stdout


def look(report: Path, folder: Path, *, width: int, anchor: str = "") -> dict:
    """Show the report in a frame of this width and return what it found out about itself."""
    text = report.read_text(encoding="utf-8")
    (folder / "probed.html").write_text(text.replace("</body>", PROBE + "</body>"))
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width, anchor=anchor))
    window = f"--window-size={max(width, 600)},1000"
    dom = browse(frame, folder / "profile", window, "--dump-dom")
    answer = re.search(r"<pre>(\{.*?\})</pre>", dom, re.DOTALL)
    assert answer, dom[:2000]
    return json.loads(answer[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_fits_works_and_asks_nobody(report, tmp_path, width):
    seen = look(report, tmp_path, width=width)
    assert seen["width"] == width
    assert seen["scrolled"] <= width
    assert seen["wide"] == []
    assert seen["cut"] == []
    # above the table, which is wider than a phone
    assert list(seen["legend"]) == ["found", "merged", "split", "inexact", "missed"]
    assert len({*seen["legend"].values(), "rgba(0, 0, 0, 0)"}) == 6
    assert seen["text"] >= 14
    assert all(seen["images"])
    assert len(seen["images"]) == 4 * 6
    assert seen["rising"] == sorted(seen["rising"])
    assert seen["falling"] == seen["rising"][::-1]
    assert seen["enlarged"] == "fixed"
    # nothing but the pictures that are in the page was wanted
    assert {name.split(":")[0] for name in seen["loaded"]} <= {"data"}
    assert seen["refused"] == []


def test_the_report_may_not_ask_anybody(report, tmp_path):
    """Whatever gets into a page, a browser refuses to fetch for it."""
    seen = look(report, tmp_path, width=1280, anchor="#stranger")
    assert seen["refused"] == ["https://example.org/stranger.png"]
