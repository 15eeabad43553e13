import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from unet_keras.errors import InputError
from unet_keras.targets.outlines import instance_areas, read_runs


def encode(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def write_numbers(numbers: list[int]) -> bytes:
    """Write numbers as characters, as cocoapi's rleToString does, without taking differences."""
    text = bytearray()
    for number in numbers:
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            text.append(48 + bits + 32 * more)
    return bytes(text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    mask=arrays(
        np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.booleans()
    ),
    stretch=st.tuples(st.integers(1, 40), st.integers(1, 9)),
)
def test_reads_what_pycocotools_writes(mask: np.ndarray, stretch: tuple[int, int]) -> None:
    mask = np.kron(mask, np.ones(stretch, np.uint8))
    runs = read_runs([encode(mask)], mask.shape)
    decoded = np.zeros(mask.size, np.uint8)
    for start, stop in zip(runs.starts, runs.stops, strict=True):
        assert start < stop
        decoded[start:stop] = 1
    np.testing.assert_array_equal(decoded.reshape(mask.shape, order="F"), mask)


def test_keeps_outlines_apart() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((30, 50, 40)) < rng.random((30, 1, 1)) ** 3
    masks[[0, 7, 29]] = False
    masks[3] = True
    outlines = [encode(mask) for mask in masks]
    runs = read_runs(outlines, (50, 40))
    assert runs.first.shape == (31,)
    np.testing.assert_array_equal(runs.areas, masks.sum(axis=(1, 2)))
    np.testing.assert_array_equal(instance_areas(outlines, (50, 40)), coco_areas(outlines))


def coco_areas(outlines: list[bytes]) -> np.ndarray:
    return coco_mask.area([{"size": [50, 40], "counts": outline} for outline in outlines])


def test_reads_polygons_up_to_the_edge() -> None:
    polygon = [[0.0, 0.0, 704.0, 0.0, 704.0, 520.0, 0.0, 520.0]]
    outline = coco_mask.frPyObjects(polygon, 520, 704)[0]["counts"]
    np.testing.assert_array_equal(instance_areas([outline], (520, 704)), [520 * 704])


def test_reads_an_image_of_many_millions_of_pixels() -> None:
    mask = np.zeros((9000, 7000), np.uint8)
    mask[10:8990, 5:6990] = 1
    assert instance_areas([encode(mask)], mask.shape) == [8980 * 6985]


def test_runs_of_length_zero_hold_nothing() -> None:
    runs = read_runs([write_numbers([4, 0, 3, 5, -3])], (3, 4))
    np.testing.assert_array_equal(runs.starts, [7])
    np.testing.assert_array_equal(runs.stops, [12])


def test_reads_an_empty_mask() -> None:
    assert read_runs([encode(np.zeros((30, 20)))], (30, 20)).starts.size == 0


def test_no_outlines_and_no_pixels() -> None:
    assert read_runs([], (5, 6)).areas.shape == (0,)
    np.testing.assert_array_equal(read_runs([b"", write_numbers([0])], (0, 6)).areas, [0, 0])


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        (b"", "holds fewer pixels"),
        (write_numbers([5, 6]), "holds fewer pixels"),
        (write_numbers([5, 8]), "holds more pixels"),
        (write_numbers([5, 7, 1]), "holds more pixels"),
        (write_numbers([2**33]), "holds more pixels"),
        (write_numbers([5, 3, 2, -4, 6]), "a run of negative length"),
        (write_numbers([-1, 13]), "a run of negative length"),
        (write_numbers([500])[:1], "ends in the middle of a number"),
        (write_numbers([5, 7]) + b"`", "ends in the middle of a number"),
        (b"5\n7", "outside '0' to 'o'"),
        (b"5\xff7", "outside '0' to 'o'"),
        (b"{'size':", "outside '0' to 'o'"),
        (b"oooooooooooo0", "more than 35 bits"),
    ],
)
def test_names_what_is_wrong_with_an_outline(outline: bytes, message: str) -> None:
    sound = write_numbers([5, 7])
    with pytest.raises(InputError, match=r"^outlines\[1\] .*" + message) as raised:
        read_runs([sound, outline, sound], (3, 4))
    assert "3 x 4" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_refuses_an_outline_of_another_size() -> None:
    outline = encode(np.ones((30, 40), np.uint8))
    with pytest.raises(InputError, match=r"fewer pixels.* 40 x 31 .*image of another size"):
        read_runs([outline], (40, 31))


def test_refuses_text() -> None:
    with pytest.raises(InputError, match=r"outlines\[0\] is str, but must be the bytes"):
        read_runs(["04"], (2, 2))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.binary(max_size=30))
def test_rubbish_is_refused_or_fills_the_image(outline: bytes) -> None:
    try:
        runs = read_runs([outline], (6, 7))
    except InputError:
        return
    assert 0 <= runs.areas[0] <= 42
    assert (runs.starts >= 0).all()
    assert (runs.stops <= 42).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_outline_never_writes_outside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = bytearray(encode(rng.random((30, 40)) < 0.5))
    for _ in range(200):
        damaged = text.copy()
        damaged[rng.integers(len(text))] = rng.integers(48, 112)
        try:
            runs = read_runs([bytes(damaged)], (30, 40))
        except InputError:
            continue
        assert (runs.stops <= 1200).all()
        assert (np.diff(runs.starts) > 0).all()
