"""What can be wrong before anything is served ends in one line and status 2."""

import importlib.util
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from unet_keras import serve
from unet_keras.errors import InputError
from unet_keras.inference.instances import InstanceRules
from unet_keras.inference.loading import Predictor
from unet_keras.web.answers import Question


def complaint(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr("sys.argv", ["serve", *arguments])
    with pytest.raises(SystemExit) as stop:
        serve.main()
    assert stop.value.code == 2
    text = capfd.readouterr().err.strip()
    assert text.startswith("error: ")
    assert "\n" not in text
    return text


def test_without_a_web_framework(monkeypatch, capfd):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name)
    )
    text = complaint(monkeypatch, capfd, "x.keras")
    assert "needs uvicorn: pip install 'unet_keras[serve]'" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere.keras"], "nowhere.keras"),
        (["x.keras", "--max-images=0"], "--max-images 0 must be a finite number above 0"),
        (["x.keras", "--max-megabytes=nan"], "--max-megabytes nan must be a finite number"),
        (["x.keras", "--max-megapixels=inf"], "--max-megapixels inf must be a finite number"),
        (["x.keras", "--max-waiting=-1"], "--max-waiting -1 must be at least 0"),
        (["x.keras", "--host=203.0.113.7"], "cannot listen on 203.0.113.7"),
        (["x.keras", "--port=70000"], "--port 70000 must be between 0 and 65535"),
    ],
)
def test_mistakes(monkeypatch, capfd, arguments, text):
    assert text in complaint(monkeypatch, capfd, "--port=0", *arguments)


def test_a_second_server_is_told_while_the_first_loads_its_network():
    with serve.open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port}: Address already in use"):
            serve.open_socket("127.0.0.1", port)


def test_a_port_that_is_taken(monkeypatch, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = complaint(monkeypatch, capfd, "x.keras", f"--port={port}")
    assert f"port {port}: Address already in use; give another --host or --port" in text


@pytest.mark.parametrize(
    ("path", "name"),
    [("runs/a", "a"), ("runs/a/saved_model", "a"), ("a b.keras", "a_b"), ("v1.2", "v1.2")],
)
def test_models_are_named_by_their_run_or_file(path, name):
    assert serve.name_of(Path(path)) == name


def test_cells_are_found_as_the_model_was_tuned():
    known = {"threshold": 0.7, "minimum_area": 44, "method": "watershed", "seed_prominence": 0.05}
    for separate, grow in ((True, 3), (False, 0)):
        metadata = {**known, "grow_pixels": 3, "separate": separate, "classes": ["a", "b"]}
        predictor = Predictor(Path("run"), 1, None, metadata, lambda image, tile: image)
        rules = InstanceRules(**known, grow_pixels=grow)
        assert serve.question_for(predictor).rules == rules
    again = serve.question_for(predictor).asked({"threshold": "0.2", "output": "mask"})
    assert again == Question(output="mask", rules=replace(rules, threshold=0.2))


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_own_addresses(host, own):
    assert serve.is_own_address(host) is own
