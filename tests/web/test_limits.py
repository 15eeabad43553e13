"""Queue, time and memory, with a network that computes until it is told to stop."""

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
import uvicorn

from unet_keras.inference.loading import Predictor
from unet_keras.web import limits, rest
from unet_keras.web.answers import Question
from unet_keras.web.app import make_app
from unet_keras.web.limits import Limits, Memory, Refusal

from .files import encode

IMAGE = encode(np.zeros((4, 4), np.uint8))
LIMITS = Limits(body_bytes=100_000, pixels=1000, images=2, seconds=1.0, waiting=2)


class Slow:
    """Predicts zeros: how often, and not before it may."""

    def __init__(self) -> None:
        self.may, self.calls = threading.Event(), 0

    def __call__(self, image: np.ndarray, tile: int | None) -> np.ndarray:
        self.calls += 1
        assert self.may.wait(60)
        return np.zeros((*image.shape[:2], 1), np.float32)


def serve(allowed: Limits, slow: Slow) -> Iterator[tuple[str, Slow]]:
    """Run the application on a free port, in a thread."""
    predictor = Predictor(Path("slow"), 1, None, {}, slow)
    app = make_app(predictor, name="slow", limits=allowed, question=Question())
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", slow
        slow.may.set()
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def patient() -> Iterator[tuple[str, Slow]]:
    yield from serve(Limits(waiting=2), Slow())


@pytest.fixture
def hasty() -> Iterator[tuple[str, Slow]]:
    yield from serve(LIMITS, Slow())


def post(address: str, content: bytes = IMAGE) -> requests.Response:
    return requests.post(f"http://{address}/segment", data=content, timeout=60)


def wait_until(condition: object) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_who_comes_when_the_queue_is_full_is_sent_away(patient):
    address, slow = patient
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(post, address) for _ in range(8)]
        # one is computed and two wait, whatever the order they came in
        wait_until(lambda: sum(answer.done() for answer in answers) == 5)
        slow.may.set()
    statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses == [200] * 3 + [503] * 5
    refused = next(a.result() for a in answers if a.result().status_code == 503)
    assert "2 requests are waiting" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) > 0
    assert post(address).status_code == 200


def test_who_goes_away_while_waiting_costs_nothing(patient, monkeypatch):
    address, slow = patient
    gone = []
    disconnection = limits._disconnection

    async def noted(request):
        await disconnection(request)
        gone.append(request)

    monkeypatch.setattr(limits, "_disconnection", noted)
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(post, address)
        wait_until(lambda: slow.calls == 1)
        head = f"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: {len(IMAGE)}\r\n\r\n".encode()
        for _ in range(2):
            with socket.create_connection(tuple(address.split(":"))) as impatient:
                impatient.sendall(head + IMAGE)
        wait_until(lambda: len(gone) == 2)
        # By the time of an answer, the server has drawn the consequence.
        assert requests.get(f"http://{address}/model", timeout=60).status_code == 200
        slow.may.set()
        assert first.result().status_code == 200
    assert post(address).status_code == 200
    assert slow.calls == 2


@pytest.mark.slow
def test_an_answer_that_is_late_is_given_up(hasty):
    address, slow = hasty
    late = post(address)
    assert late.status_code == 504
    assert "within 1 seconds" in late.json()["error"]
    waiting = post(address)
    assert waiting.status_code == 504
    slow.may.set()
    wait_until(lambda: post(address).status_code == 200)
    # what waited was never computed
    assert slow.calls == 2


def test_a_body_that_does_not_come_is_given_up(hasty):
    address, slow = hasty
    slow.may.set()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.putrequest("POST", "/segment")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(IMAGE[:10])
    answer = connection.getresponse()
    assert answer.status == 408
    assert b"10 bytes came" in answer.read()
    connection.close()
    assert post(address).status_code == 200


def test_a_body_of_unknown_length_is_counted(hasty):
    address, slow = hasty
    slow.may.set()
    answer = requests.post(
        f"http://{address}/segment", data=(bytes(10_000) for _ in range(50)), timeout=60
    )
    assert answer.status_code == 413
    assert "100000 bytes" in answer.json()["error"]
    in_parts = requests.post(f"http://{address}/segment", data=iter([IMAGE[:9], IMAGE[9:]]))
    assert in_parts.status_code == 200


@pytest.mark.slow
def test_who_is_still_sending_does_not_disturb_the_end(caplog):
    running = serve(Limits(), Slow())
    address, _ = next(running)
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.putrequest("POST", "/segment")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(IMAGE[:10])
    time.sleep(0.5)
    assert next(running, None) is None  # the server is stopped
    assert "Traceback" not in caplog.text
    connection.close()


def test_bodies_together_take_no_more_than_there_is():
    memory, one, other = Memory(10), object(), object()
    memory.hold(one, 6)
    with pytest.raises(Refusal, match="busy"):
        memory.hold(other, 5)
    memory.release(other)
    memory.release(one)
    memory.hold(other, 10)


def test_a_bug_is_answered_and_logged(hasty, caplog):
    address, slow = hasty
    slow.may = None
    answer = post(address)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed on this request; its log says why"}
    assert "AttributeError" in caplog.text
    slow.may = threading.Event()
    slow.may.set()
    assert post(address).status_code == 200


@pytest.mark.parametrize(("asked", "taken"), [(1, 256), (512, 512), (100_000, 1024)])
def test_tiles_that_clients_ask_for_are_bounded(asked, taken):
    tiles = []

    def predict(image: np.ndarray, tile: int | None) -> np.ndarray:
        tiles.append(tile)
        return np.zeros((*image.shape[:2], 1), np.float32)

    body = {"signature_name": "tiled", "inputs": {"images": [[[[0]]]], "tile": asked}}
    rest.predict(json.dumps(body).encode(), Predictor(Path("any"), 1, None, {}, predict), LIMITS)
    assert tiles == [taken]


@pytest.mark.parametrize("signature", ["serving_default", "encoded"])
def test_large_images_are_predicted_in_tiles_by_either_interface(signature, monkeypatch):
    monkeypatch.setattr(limits, "WHOLE_IMAGE_PIXELS", 15)
    tiles = []

    def predict(image: np.ndarray, tile: int | None) -> np.ndarray:
        tiles.append(tile)
        return np.zeros((*image.shape[:2], 1), np.float32)

    predictor = Predictor(Path("any"), 1, None, {}, predict)
    for side, expected in ((3, None), (4, limits.TILE_PIXELS)):
        image = np.zeros((side, side), np.uint8)
        encoded = {"b64": base64.b64encode(encode(image)).decode()}
        rows = [encoded if signature == "encoded" else image[..., np.newaxis].tolist()]
        body = json.dumps({"signature_name": signature, "instances": rows}).encode()
        rest.predict(body, predictor, LIMITS)
        assert tiles.pop() == expected
