"""The command, asked by a real HTTP client: answers equal Keras's, and nobody can harm others."""

import base64
import http.client
import io
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from unet_keras.inference.instances import label_instances
from unet_keras.inference.tiling import predict_tiled

from .conftest import Server
from .files import bad_images, encode

pytestmark = pytest.mark.slow
SIZES = [(64, 64), (33, 90), (1, 7), (120, 51)]


def post(server: Server, content: bytes, **query: object) -> requests.Response:
    return requests.post(f"{server.address}/segment", data=content, params=query, timeout=60)


def predict(server: Server, request: object) -> requests.Response:
    body = request if isinstance(request, bytes) else json.dumps(request)
    return requests.post(f"{server.address}/v1/models/tiny:predict", data=body, timeout=60)


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def expected_labels(server: Server, image: np.ndarray) -> np.ndarray:
    probability = predict_tiled(server.model, image)
    return label_instances(probability, threshold=0.5, minimum_area=10)


def assert_well(server: Server, rng: np.random.Generator) -> None:
    """Whatever was sent before, the next one gets the right answer."""
    image = noise(rng, 40, 40)
    answer = post(server, encode(image), output="labels")
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(
        tifffile.imread(io.BytesIO(answer.content)), expected_labels(server, image)
    )


def test_many_at_once_get_what_keras_says(server, rng):
    images = [noise(rng, *SIZES[number % len(SIZES)]) for number in range(24)]
    kinds = ["png", "tiff", "bmp"]
    with ThreadPoolExecutor(8) as clients:
        answers = list(
            clients.map(
                lambda n: post(server, encode(images[n], kinds[n % 3]), output="probability"),
                range(len(images)),
            )
        )
    for image, answer in zip(images, answers, strict=True):
        assert answer.headers["content-type"] == "image/tiff"
        expected = predict_tiled(server.model, image)[..., 0]
        found = tifffile.imread(io.BytesIO(answer.content)).reshape(image.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_json_outlines_are_the_label_map(server, rng):
    image = noise(rng, 70, 90)
    labels = expected_labels(server, image)
    answer = post(server, encode(image)).json()
    assert answer["count"] == labels.max() == len(answer["instances"])
    assert answer["confluency"] == pytest.approx((labels > 0).mean(), abs=1e-6)
    painted = np.zeros_like(labels)
    for cell in answer["instances"]:
        mask = coco_mask.decode(cell["segmentation"]) > 0
        assert mask.sum() == cell["area"]
        assert coco_mask.toBbox(cell["segmentation"]).tolist() == cell["bbox"]
        painted[mask] = cell["id"]
    np.testing.assert_array_equal(painted, labels)


def test_mask_overlay_and_everything(server, rng):
    image = noise(rng, 50, 60)
    labels = expected_labels(server, image)
    read = lambda content: np.asarray(Image.open(io.BytesIO(content)))  # noqa: E731
    mask = read(post(server, encode(image), output="mask").content)
    np.testing.assert_array_equal(mask, (labels > 0) * 255)
    overlay = post(server, encode(image), output="overlay").content
    assert read(overlay).shape == (50, 60, 3)
    everything = requests.post(
        f"{server.address}/segment",
        files={"image": ("a/b/cells.1.png", encode(image))},
        params={"output": "all", "outlines": "none"},
        timeout=60,
    ).json()
    assert everything["result"]["count"] == labels.max()
    files = {name: base64.b64decode(text) for name, text in everything["files"].items()}
    assert files["cells.1_overlay.png"] == overlay
    np.testing.assert_array_equal(read(files["cells.1_mask.png"]), mask)
    found = tifffile.imread(io.BytesIO(files["cells.1_labels.tif"]))
    np.testing.assert_array_equal(found, labels)
    assert set(everything["pictures"]) == {"image", "probability", "mask", "instances"}


def test_settings_replace_the_models(server, rng):
    image = noise(rng, 60, 60)
    answer = post(server, encode(image), threshold=0.7, minimum_area=40, method="watershed")
    probability = predict_tiled(server.model, image)
    labels = label_instances(probability, threshold=0.7, minimum_area=40, method="watershed")
    assert answer.json()["count"] == labels.max()


def test_several_images_in_a_form(server, rng):
    images = [noise(rng, 20, 30), noise(rng, 41, 17)]
    files = [("image", (f"{n}.png", encode(image))) for n, image in enumerate(images)]
    url = f"{server.address}/segment"
    answers = requests.post(url, files=files, timeout=60).json()["images"]
    assert [(a["name"], a["height"], a["width"]) for a in answers] == [
        ("0.png", 20, 30), ("1.png", 41, 17),
    ]  # fmt: skip
    for image, answer in zip(images, answers, strict=True):
        assert answer["count"] == expected_labels(server, image).max()
    assert requests.post(url, files=files, params={"output": "mask"}, timeout=60).status_code == 400


def test_colors_become_grey_and_wide_values_are_refused(server, rng):
    grey = noise(rng, 24, 24)
    colors = np.stack([grey] * 3, axis=-1)
    counts = [post(server, encode(image)).json()["count"] for image in (grey, colors)]
    assert counts[0] == counts[1]
    # 16 bits that hold a byte's values are the same image; others are another microscope's
    assert post(server, encode(grey.astype(np.uint16), "tiff")).json()["count"] == counts[0]


def test_tensorflow_servings_format(server, rng):
    images = noise(rng, 2, 30, 22, 1)
    expected = np.stack([predict_tiled(server.model, image) for image in images])
    rows = images.tolist()
    tiled = {"signature_name": "tiled", "inputs": {"images": rows, "tile": 8}}
    for request, key in (
        ({"instances": rows}, "predictions"),
        ({"instances": [{"images": row} for row in rows]}, "predictions"),
        ({"inputs": rows, "signature_name": "serving_default"}, "outputs"),
        ({"inputs": {"images": rows}}, "outputs"),
        (tiled, "outputs"),
    ):
        answer = predict(server, request)
        assert list(answer.json()) == [key], answer.text[:300]
        np.testing.assert_allclose(answer.json()[key], expected, atol=1e-5)
    status = requests.get(f"{server.address}/v1/models/tiny", timeout=60).json()
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    versioned = f"{server.address}/v1/models/tiny/versions/1:predict"
    answer = requests.post(versioned, json={"instances": rows}, timeout=60)
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-5)


def test_encoded_images_in_tensorflow_servings_format(server, rng):
    images = [noise(rng, 20, 31), noise(rng, 28, 9)]
    texts = [{"b64": base64.b64encode(encode(image)).decode()} for image in images]
    rows = predict(server, {"signature_name": "encoded", "instances": texts}).json()["predictions"]
    named = predict(server, {"signature_name": "encoded", "inputs": {"encoded": texts}}).json()
    assert named["outputs"]["sizes"] == [[20, 31], [28, 9]]
    for image, row in zip(images, rows, strict=True):
        assert row["sizes"] == list(image.shape)
        found = np.array(row["probabilities"])
        assert found.shape == (28, 31, 1)
        cut = found[: image.shape[0], : image.shape[1]]
        np.testing.assert_allclose(cut, predict_tiled(server.model, image), atol=1e-5)


PIXEL = [[[[1]]]]
BAD_PREDICTIONS = {
    "nothing": (b"", 400, "no JSON"),
    "text": (b"hello", 400, "no JSON"),
    "bytes": (b"\xff\xfe\x00", 400, "no JSON"),
    "deep": (b"[" * 100_000, 400, "no JSON"),
    "a list": (b"[]", 400, "JSON object"),
    "no input": ({}, 400, "instances and inputs"),
    "both": ({"instances": PIXEL, "inputs": PIXEL}, 400, "instances and inputs"),
    "a key": ({"instances": PIXEL, "model": 1}, 400, "'model'"),
    "a signature": ({"signature_name": "x", "instances": PIXEL}, 400, "serving_default"),
    "a signature of lists": ({"signature_name": [1], "instances": PIXEL}, 400, "signature_name"),
    "no image": ({"instances": []}, 400, "one image or more"),
    "a number": ({"instances": 7}, 400, "list"),
    "ragged": ({"instances": [[[[1], [2]], [[3]]]]}, 400, "shape"),
    "strings": ({"instances": [[[["a"]]]]}, 400, "shape"),
    "booleans": ({"instances": [[[[True]]]]}, 400, "shape"),
    "flat": ({"instances": [[1, 2]]}, 400, r"shape (1, 2)"),
    "channels": ({"instances": [[[[1, 2, 3, 4]]]]}, 422, "4 channels"),
    "infinity": (b'{"instances": [[[[Infinity]]]]}', 400, "no JSON"),
    "huge": ({"instances": [[[[10**400]]]]}, 400, "shape"),
    "no tile": ({"signature_name": "tiled", "inputs": {"images": PIXEL}}, 400, "tile"),
    "tile 0": ({"signature_name": "tiled", "inputs": {"images": PIXEL, "tile": 0}}, 400, "tile"),
    "no base64": ({"signature_name": "encoded", "instances": [{"b64": "*"}]}, 400, "base64"),
    "no file": ({"signature_name": "encoded", "instances": [{"b64": "aGFsbG8="}]}, 415, "image"),
    "count": ({"instances": PIXEL * 4}, 413, "3 images at most"),
    "pixels": ({"instances": np.zeros((2, 400, 380, 1), int).tolist()}, 413, "pixels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PREDICTIONS)
def test_what_is_no_prediction_request(server, case):
    body, status, text = BAD_PREDICTIONS[case]
    answer = predict(server, body)
    assert answer.status_code == status, answer.text
    assert text in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("case", bad_images())
def test_what_is_no_image(server, rng, case):
    content, status, text = bad_images()[case]
    answer = post(server, content)
    assert answer.status_code == status, answer.text
    assert text in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("output=film", "must be one of json"),
        ("threshold=2", "between 0 and 1"),
        ("threshold=nan", "between 0 and 1"),
        ("threshold=x", "must be a number"),
        ("minimum_area=-1", "at least 0"),
        ("outline=rle", "there is no parameter 'outline'"),
    ],
)
def test_queries_that_mean_nothing(server, query, text):
    answer = requests.post(f"{server.address}/segment?{query}", data=b"x", timeout=60)
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_forms_that_are_none(server, rng):
    image = encode(noise(rng, 8, 8))
    many = [("image", (f"{n}.png", image)) for n in range(5)]
    bad = [*many[:2], ("image", ("bad.png", b"no"))]
    form = {"content-type": "multipart/form-data"}
    cases = [
        ({"files": many}, 413, "3 images at most"),
        ({"files": bad}, 415, "bad.png is no image"),
        ({"files": {"note": (None, "text")}}, 400, "no file"),
        ({"data": b"x", "headers": form}, 400, "form"),
        (
            {"data": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}},
            400,
            "form",
        ),
    ]
    for given, status, text in cases:
        answer = requests.post(f"{server.address}/segment", timeout=60, **given)
        assert answer.status_code == status, answer.text
        assert text in answer.json()["error"]


def test_addresses_that_are_none(server):
    get = lambda path, **options: requests.get(server.address + path, timeout=60, **options)  # noqa: E731
    assert get("/nowhere").status_code == 404
    assert get("/segment").status_code == 405
    assert "there is 'tiny'" in get("/v1/models/other").json()["error"]
    # a web site that has its own name point to this machine
    assert get("/model", headers={"Host": "example.org"}).status_code == 400
    assert get("/model").json()["limits"]["images"] == 3


def test_bad_requests_harm_nobody_else(server, rng):
    host, port = urlsplit(server.address).hostname, urlsplit(server.address).port
    # one that never sends what it promised, one that goes away, one that speaks no HTTP
    silent = http.client.HTTPConnection(host, port)
    silent.putrequest("POST", "/segment")
    silent.putheader("Content-Length", "1000")
    silent.endheaders()
    for rudeness in (
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab",
        b"\0" * 99,
    ):
        with socket.create_connection((host, port)) as connection:
            connection.sendall(rudeness)
    image = noise(rng, 48, 48)
    bad = [content for content, *_ in bad_images().values()] * 2
    with ThreadPoolExecutor(8) as clients:
        for content in bad:
            clients.submit(post, server, content)
        good = [clients.submit(post, server, encode(image), output="labels") for _ in range(10)]
    for answer in good:
        found = tifffile.imread(io.BytesIO(answer.result().content))
        np.testing.assert_array_equal(found, expected_labels(server, image))
    silent.close()
    assert_well(server, rng)
    assert "Traceback" not in server.log.read_text()
