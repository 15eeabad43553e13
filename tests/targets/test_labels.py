import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.targets.maps import KINDS, random_labels
from unet_keras.errors import InputError
from unet_keras.targets.labels import (
    OVERLAP_RULES,
    OverlapStatistics,
    overlap_statistics,
    paint_labels,
    plain_labels,
    separate_touching,
    touching_share,
)


def encode(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def random_masks(seed: int) -> np.ndarray:
    """Rectangles that overlap, some equally large, one empty; bool (n, H, W), not square."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((rng.integers(1, 25), 40, 57), bool)
    for mask in masks[1:]:
        y, x = rng.integers(0, 40), rng.integers(0, 57)
        mask[y : y + rng.choice([1, 5, 20]), x : x + rng.choice([1, 5, 20])] = True
    return masks


def paint_by_rule(masks: np.ndarray, overlap: str) -> np.ndarray:
    """Give every pixel to one of the masks that hold it, pixel by pixel, as the rule words it."""
    labels = np.zeros(masks.shape[1:], int)
    areas = masks.sum(axis=(1, 2))
    keys = {
        "smallest": lambda k: (areas[k], k),
        "largest": lambda k: (-areas[k], k),
        "first": lambda k: k,
        "last": lambda k: -k,
    }
    for y, x in np.argwhere(masks.any(axis=0)):
        labels[y, x] = 1 + min(np.flatnonzero(masks[:, y, x]), key=keys[overlap])
    return labels


@pytest.mark.parametrize("overlap", OVERLAP_RULES)
def test_paints_by_the_rule(overlap: str) -> None:
    for seed in range(10):
        masks = random_masks(seed)
        labels = paint_labels([encode(mask) for mask in masks], (40, 57), overlap=overlap)
        assert labels.dtype == np.uint16
        assert labels.flags.c_contiguous
        np.testing.assert_array_equal(labels, paint_by_rule(masks, overlap))


def test_the_smallest_instance_is_on_top_unless_told_otherwise() -> None:
    outlines = [encode(mask) for mask in random_masks(3)]
    np.testing.assert_array_equal(
        paint_labels(outlines, (40, 57)), paint_labels(outlines, (40, 57), overlap="smallest")
    )


def test_a_vanished_instance_leaves_a_gap_in_the_numbers() -> None:
    masks = np.zeros((4, 6, 9), bool)
    masks[0, 2, 3] = True
    masks[1, 1:4, 2:5] = True
    masks[3, 0, 0] = True
    outlines = [encode(mask) for mask in masks]
    labels = paint_labels(outlines, (6, 9), overlap="largest")
    assert set(np.unique(labels)) == {0, 2, 4}
    assert overlap_statistics(outlines, labels) == OverlapStatistics(1, (1,), (3,))
    labels = paint_labels(outlines, (6, 9), overlap="smallest")
    assert overlap_statistics(outlines, labels) == OverlapStatistics(1, (), (3,))


@pytest.mark.parametrize("seed", range(5))
def test_counts_shared_pixels_once(seed: int) -> None:
    masks = random_masks(seed)
    outlines = [encode(mask) for mask in masks]
    statistics = overlap_statistics(outlines, paint_labels(outlines, (40, 57)))
    assert statistics.shared_pixels == (masks.sum(axis=0) > 1).sum()


@pytest.mark.parametrize("instances", [0, 1, 255, 256, 65_535, 65_536])
def test_numbers_fit_however_many_there_are(instances: int) -> None:
    # Instance k is the pixel k of the first columns.
    outlines = [encode_pixel(k, 300 * 230) for k in range(instances)]
    labels = paint_labels(outlines, (300, 230))
    assert labels.dtype == (np.uint16 if instances <= 65_535 else np.uint32)
    expected = np.arange(1, 300 * 230 + 1)
    expected[instances:] = 0
    np.testing.assert_array_equal(labels.ravel(order="F"), expected)


def encode_pixel(index: int, pixels: int) -> bytes:
    text = bytearray()
    for number in (index, 1, pixels - index - 1):
        while number > 15:
            text.append(48 + 32 + (number & 31))
            number >>= 5
        text.append(48 + number)
    return bytes(text)


def test_an_image_without_pixels() -> None:
    assert paint_labels([], (0, 7)).shape == (0, 7)
    assert paint_labels([b""], (7, 0)).shape == (7, 0)


def test_refuses_an_unknown_rule() -> None:
    with pytest.raises(
        InputError, match="overlap='biggest' must be one of smallest, largest, first, last"
    ):
        paint_labels([], (3, 3), overlap="biggest")


def test_refuses_outlines_of_another_size() -> None:
    outlines = [encode(np.ones((4, 5)))]
    with pytest.raises(InputError, match=r"outlines\[0\] holds more pixels"):
        paint_labels(outlines, (4, 4))
    with pytest.raises(InputError, match=r"outlines\[0\] holds fewer pixels"):
        overlap_statistics(outlines, np.zeros((5, 5), np.uint16))


def separate_pixel_by_pixel(labels: np.ndarray) -> tuple[np.ndarray, set[int]]:
    """The separated map and the numbers of the instances that touch, by a slow loop."""
    separated, touching = labels.copy(), set()
    height, width = labels.shape
    for y, x in np.argwhere(labels > 0):
        for near_y, near_x in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near_y < height and 0 <= near_x < width:
                other = labels[near_y, near_x]
                if other not in (0, labels[y, x]):
                    separated[y, x] = 0
                    touching.add(int(labels[y, x]))
    return separated, touching


@pytest.mark.parametrize("kind", KINDS)
def test_separates_as_a_slow_loop_does(kind: str) -> None:
    for seed in range(15):
        labels = random_labels(kind, seed)
        separated, touching = separate_pixel_by_pixel(labels)
        result = separate_touching(labels)
        assert result.dtype == labels.dtype
        np.testing.assert_array_equal(result, separated)
        instances = len(np.unique(labels[labels > 0]))
        assert touching_share(labels) == pytest.approx(len(touching) / max(instances, 1))


def test_separation_leaves_nothing_touching() -> None:
    for seed in range(10):
        assert touching_share(separate_touching(random_labels("blocks", seed))) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_separation_keeps_the_dtype_and_its_input(dtype: type) -> None:
    labels = random_labels("blocks", 2).astype(dtype)
    before = labels.copy()
    assert separate_touching(labels[:, ::-1]).dtype == dtype
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0), (1, 1)])
def test_separation_of_hardly_anything(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, np.uint16)
    np.testing.assert_array_equal(separate_touching(labels), labels)
    assert touching_share(labels) == 0


@pytest.mark.parametrize("function", [separate_touching, touching_share, plain_labels])
def test_refuses_what_is_no_label_map(function: object) -> None:
    with pytest.raises(InputError, match="dtype float64 must be integers"):
        function(np.zeros((3, 3)))
    with pytest.raises(InputError, match="hold -1, but must be 0"):
        function(np.array([[0, -1]]))
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\)"):
        function(np.zeros((2, 2, 2), int))


def test_plain_labels_copies_only_what_it_must() -> None:
    small = np.array([[0, 7], [65_535, 7]], np.uint16)
    assert plain_labels(small) is small
    assert plain_labels(small.astype(np.int64)).dtype == np.uint16
    many = np.arange(70_000, dtype=np.int32).reshape(700, 100)
    assert plain_labels(many) is many


def test_plain_labels_keeps_its_shape_with_older_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    unique = np.unique

    def flat(values: np.ndarray, *, return_inverse: bool) -> tuple[np.ndarray, np.ndarray]:
        numbers, found = unique(values, return_inverse=return_inverse)
        return numbers, found.ravel()

    monkeypatch.setattr(np, "unique", flat)
    assert plain_labels(np.array([[0, 10**12], [5, 10**12]])).tolist() == [[0, 2], [1, 2]]


@pytest.mark.parametrize("background", [0, 10**15])
def test_plain_labels_replaces_huge_numbers_one_for_one(background: int) -> None:
    labels = np.array([[background, 10**12], [5, 10**12]], np.uint64)
    plain = plain_labels(labels)
    assert plain.dtype == np.int32
    assert len(np.unique(plain)) == 3
    assert plain[0, 1] == plain[1, 1]
    np.testing.assert_array_equal(plain == 0, labels == 0)
    assert plain.max() <= labels.size
