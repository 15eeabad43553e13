"""The page in a real browser: what a user does on it, at a desk and on a phone."""

import base64
import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.browser import CHROMIUM, Browser
from unet_keras.inference.instances import label_instances
from unet_keras.inference.tiling import predict_tiled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with"),
]
WIDER_THAN_THE_WINDOW = """[...document.querySelectorAll("body *")].filter(element =>
  !element.closest("pre") && element.getBoundingClientRect().right > innerWidth + 0.5
).map(element => element.outerHTML.slice(0, 80))"""
SHOWN = "document.getElementById('picture').naturalWidth"
NOTHING = "\N{EN DASH}"  # of figures


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(2).integers(0, 256, (90, 120), dtype=np.uint8)


@pytest.fixture
def file(tmp_path, image):
    # what a browser cannot show by itself
    path = tmp_path / "A172 <b>long name_of_a_well_C7_and_a_time_00d20h00m_4.tif"
    tifffile.imwrite(path, image)
    return path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_an_image_is_segmented_and_downloaded(browser, server, image, file, width, dark):
    browser.requested.clear()
    browser.show(f"{server.address}/", width=width, dark=dark)
    assert browser.evaluate(WIDER_THAN_THE_WINDOW) == []
    browser.wait_for("document.getElementById('about').textContent.includes('tiny')")
    browser.choose_file("#file", file)
    browser.wait_for(f"!document.getElementById('result').hidden && {SHOWN} === 120")
    labels = label_instances(predict_tiled(server.model, image), minimum_area=10)
    assert browser.evaluate("document.getElementById('count').textContent") == str(labels.max())
    assert browser.evaluate(WIDER_THAN_THE_WINDOW) == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('b').length") == 1  # names are no HTML
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(22, 24, 27)") == dark
    # nothing was asked of anybody else
    own = (server.address, f"blob:{server.address}", "data:")
    assert [url for url in browser.requested if not url.startswith(own)] == []


def test_views_threshold_and_downloads_by_keyboard(browser, server, image, file):
    browser.show(f"{server.address}/", width=1280)
    browser.wait_for("document.getElementById('about').textContent.includes('tiny')")
    browser.choose_file("#file", file)
    browser.wait_for(f"!document.getElementById('result').hidden && {SHOWN} === 120")
    focused = "document.activeElement"
    browser.evaluate("document.getElementById('file').focus()")
    browser.press("Tab", 9)
    assert browser.evaluate(f"{focused}.value") == "instances"
    seen = set()
    for view in ("probability", "mask", "image"):
        browser.press("ArrowRight", 39)
        assert browser.evaluate(f"{focused}.value + {focused}.checked") == f"{view}true"
        browser.wait_for(f"document.getElementById('picture').alt.startsWith('{view}')")
        seen.add(browser.evaluate("document.getElementById('picture').src"))
    assert len(seen) == 3
    browser.press("Tab", 9)
    assert browser.evaluate(f"{focused}.id") == "threshold"
    before = browser.evaluate("document.getElementById('confluency').textContent")
    browser.press("End", 35)
    browser.wait_for(f"document.getElementById('confluency').textContent !== '{before}'")
    names = browser.evaluate(
        "[...document.querySelectorAll('#files a')].map(link => link.download)"
    )
    assert {name.removeprefix(file.stem) for name in names} == {
        "_mask.png", "_labels.tif", "_probability.tif", "_overlay.png", "_cells.csv", ".json",
    }  # fmt: skip


def test_what_is_downloaded_is_what_keras_says(browser, server, image, file):
    browser.show(f"{server.address}/", width=1280)
    browser.wait_for("document.getElementById('about').textContent.includes('tiny')")
    browser.choose_file("#file", file)
    browser.wait_for("!document.getElementById('result').hidden")
    # the page's own policy forbids to fetch blobs; what it has kept is looked at instead
    texts = browser.evaluate(
        """(async () => {
          const query = "segment?output=all&minimum_area=10&threshold=0.5", form = new FormData();
          form.append("image", file);
          return (await (await fetch(query, { method: "POST", body: form })).json()).files;
        })()"""
    )
    files = {name.removeprefix(file.stem): base64.b64decode(text) for name, text in texts.items()}
    probability = predict_tiled(server.model, image)
    labels = label_instances(probability, minimum_area=10)
    found = tifffile.imread(io.BytesIO(files["_probability.tif"]))
    np.testing.assert_allclose(found, probability[..., 0], atol=1e-5)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(files["_labels.tif"])), labels)
    mask = np.asarray(Image.open(io.BytesIO(files["_mask.png"])))
    np.testing.assert_array_equal(mask, (labels > 0) * 255)


def test_a_mistake_is_said(browser, server, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    browser.show(f"{server.address}/", width=390)
    browser.choose_file("#file", tmp_path / "notes.png")
    browser.wait_for("document.querySelector('.message.bad') !== null")
    said = browser.evaluate("document.getElementById('message').textContent")
    assert "notes.png is no image: post a PNG, JPEG, TIFF or BMP file" in said


def test_a_wrong_setting_can_be_mended(browser, server, file):
    browser.show(f"{server.address}/", width=1280)
    browser.wait_for("document.getElementById('about').textContent.includes('tiny')")
    browser.choose_file("#file", file)
    browser.wait_for(f"!document.getElementById('result').hidden && {SHOWN} === 120")
    type_area = """(() => {
        const area = document.getElementById("area");
        area.value = "%s";
        area.dispatchEvent(new Event("input"));
    })()"""
    browser.evaluate(type_area % "-3")
    browser.wait_for("document.querySelector('.message.bad') !== null")
    hidden = "document.getElementById('%s').offsetParent === null"
    assert [browser.evaluate(hidden % name) for name in ("area", "stage", "views")] == [
        False, True, True,
    ]  # fmt: skip
    assert browser.evaluate("document.getElementById('count').textContent") == NOTHING
    browser.evaluate(type_area % "10")
    browser.wait_for("document.querySelector('.message.bad') === null")
    browser.wait_for(f"document.getElementById('count').textContent !== '{NOTHING}'")
    assert not browser.evaluate(hidden % "stage")


def test_the_page_may_not_ask_anybody_else(browser, server):
    browser.show(f"{server.address}/", width=1280)
    refused = browser.evaluate(
        """new Promise(resolve => {
          addEventListener("securitypolicyviolation", event => resolve(event.blockedURI));
          new Image().src = "https://example.org/stranger.png";
        })"""
    )
    assert refused == "https://example.org/stranger.png"
