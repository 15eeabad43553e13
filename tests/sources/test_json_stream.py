"""Elements and their places, wherever the windows of reading fall."""

import hashlib
import json

import pytest

from unet_keras.errors import InputError
from unet_keras.sources import json_stream
from unet_keras.sources.json_stream import JsonStream


def random_value(rng, depth=0):
    kind = rng.integers(8 if depth < 3 else 6)
    if kind == 0:
        return int(rng.integers(-(10**12), 10**12))
    if kind == 1:
        return float(rng.normal()) * 10.0 ** int(rng.integers(-20, 20))
    if kind == 2:
        return [True, False, None][int(rng.integers(3))]
    if kind < 6:
        return "".join(rng.choice(list('ab"\\{}[],: \n\tß細🔬'), int(rng.integers(6))))
    values = [random_value(rng, depth + 1) for _ in range(int(rng.integers(5)))]
    return values if kind == 6 else {f'{k}"\\': value for k, value in enumerate(values)}


@pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_elements_and_spans(window, ascii_only, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_WINDOW_BYTES", window)
    path = tmp_path / "file.json"
    for trial in range(25):
        content = {f"key {k}": random_value(rng) for k in range(rng.integers(5))}
        indent = [None, 0, 3][trial % 3]
        text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
        data = [b"", b"\xef\xbb\xbf"][trial % 2] + text.encode() + b" \n" * (trial % 4)
        path.write_bytes(data)
        stream = JsonStream(path, whole=tuple(content))
        found = {}
        for element in stream:
            span = data[element.start : element.start + element.length]
            assert json.loads(span) == element.value
            found.setdefault(element.key, []).append(element.value)
        assert stream.keys == list(content)
        assert stream.digest == hashlib.sha256(data).hexdigest()
        for key, value in content.items():
            elements = list(value.values()) if isinstance(value, dict) else value
            expected = elements if isinstance(elements, list) else [value]
            assert found.get(key, []) == expected


@pytest.mark.parametrize("window", [1, 5, 1 << 20])
def test_every_cut_is_found(window, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_WINDOW_BYTES", window)
    whole = b'{"a": [1.5e3, {"b": "\\u00e9"}, null], "c": {"d": -2}, "e": "f"}'
    path = tmp_path / "file.json"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"file\.json is not COCO JSON: at byte \d+"):
            list(JsonStream(path))
    path.write_bytes(whole)
    assert [element.value for element in JsonStream(path)] == [
        1500.0,
        {"b": "é"},
        None,
        -2,
        "f",
    ]


def test_a_mistake_is_reported_where_it_is_without_reading_on(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'{"a": [1, 2, }' + b" " * (5 << 20))
    stream = JsonStream(path)
    with pytest.raises(InputError, match=r"at byte 13 stands '}"):
        list(stream)
    assert len(stream._text) <= 2 << 20


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "file.json"
    with path.open("w") as file:
        file.write('{"annotations": [0')
        for k in range(30_000):
            file.write(f', {{"id": {k}, "points": [{"0.25, " * 30}1]}}')
        file.write("]}")
    stream = JsonStream(path)
    longest = max(len(stream._text) for _ in stream)
    assert longest <= 2 << 20 < path.stat().st_size


def test_an_absent_file(tmp_path):
    with pytest.raises(InputError, match=r"There is no file .*absent\.json"):
        list(JsonStream(tmp_path / "absent.json"))
