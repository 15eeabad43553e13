from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import KDTree

from tests.targets.maps import KINDS, random_labels
from unet_keras.errors import InputError
from unet_keras.targets.borders import SMALLEST_BORDER, border_map

# float32 of an exponent up to 14, and nothing above SMALLEST_BORDER dropped
CLOSE = {"rtol": 1e-5, "atol": 1.01 * SMALLEST_BORDER}


def border_map_as_written(labels: np.ndarray, sigma_pixels: float = 5.0) -> np.ndarray:
    """Read eq. 2 of Ronneberger et al. 2015 word by word: every pixel against every instance."""
    pixels = np.argwhere(labels == 0)
    border = np.zeros(labels.shape)
    distances = []
    for number in np.unique(labels[labels > 0]):
        instance = np.argwhere(labels == number)
        squared = ((pixels[:, None] - instance[None]) ** 2).sum(axis=-1)
        distances.append(np.sqrt(squared.min(axis=1, initial=np.iinfo(np.int64).max)))
    if len(distances) >= 2:
        d1, d2 = np.sort(distances, axis=0)[:2]
        border[tuple(pixels.T)] = np.exp(-((d1 + d2) ** 2) / (2 * sigma_pixels**2))
    return border


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_formula_on_random_maps(kind: str) -> None:
    for seed in range(40):
        labels = random_labels(kind, seed)
        np.testing.assert_allclose(
            border_map(labels), border_map_as_written(labels), **CLOSE, err_msg=f"{kind} {seed}"
        )


@pytest.mark.parametrize("sigma_pixels", [0.1, 0.4, 1, 1.7, 3, 10, 40, 300, 1e4, 1e30])
@pytest.mark.parametrize("kind", ["disks", "pieces", "points", "pair", "one"])
def test_is_the_formula_for_any_width(kind: str, sigma_pixels: float) -> None:
    for seed in range(8):
        labels = random_labels(kind, seed)
        np.testing.assert_allclose(
            border_map(labels, sigma_pixels=sigma_pixels),
            border_map_as_written(labels, sigma_pixels),
            **CLOSE,
            err_msg=f"{kind} {seed}",
        )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    labels=arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.integers(0, 4),
        fill=st.just(0),
    ),
    stretch=st.tuples(st.integers(1, 5), st.integers(1, 20)),
    sigma_pixels=st.floats(0.3, 20),
)
def test_is_the_formula_on_drawn_maps(
    labels: np.ndarray, stretch: tuple[int, int], sigma_pixels: float
) -> None:
    labels = np.kron(labels, np.ones(stretch, np.uint8))
    np.testing.assert_allclose(
        border_map(labels, sigma_pixels=sigma_pixels),
        border_map_as_written(labels, sigma_pixels),
        **CLOSE,
    )


@pytest.mark.slow
def test_is_the_formula_on_a_map_larger_than_a_block_and_the_reach() -> None:
    labels = np.zeros((150, 210), np.uint16)
    rng = np.random.default_rng(0)
    y, x = np.indices(labels.shape)
    for k in range(1, 41):
        center = rng.uniform((-5, -5), (155, 140))  # the right third is far from all
        labels[np.hypot(y - center[0], x - center[1]) < rng.uniform(2, 12)] = k
    expected = border_map_as_written(labels)
    border = border_map(labels)
    np.testing.assert_allclose(border, expected, **CLOSE)
    assert (border[expected < 0.99 * SMALLEST_BORDER] == 0).all()
    assert (border[expected > 1.01 * SMALLEST_BORDER] > 0).all()


@pytest.mark.parametrize("instances", [300, 40_000, 70_000])
def test_is_the_formula_for_many_instances(instances: int) -> None:
    # One-pixel instances, so that the two nearest instances are the two nearest points.
    rng = np.random.default_rng(instances)
    labels = np.zeros((310, 290), np.uint32)
    labels.ravel()[rng.permutation(labels.size)[:instances]] = 1 + np.arange(instances)
    distances, _ = KDTree(np.argwhere(labels > 0)).query(np.argwhere(labels == 0), k=2)
    expected = np.zeros(labels.shape)
    expected[labels == 0] = np.exp(-(distances.sum(axis=1) ** 2) / (2 * 5.0**2))
    np.testing.assert_allclose(border_map(labels), expected, **CLOSE)


def test_numbers_do_not_matter() -> None:
    labels = random_labels("disks", 7)
    expected = border_map(labels)
    for dtype in (np.uint8, np.int8, np.int16, np.int32, np.uint32, np.int64, np.uint64):
        np.testing.assert_array_equal(border_map(labels.astype(dtype)), expected)
    for factor in (1_000, 2**31 // 100, 2**40):
        np.testing.assert_array_equal(border_map(labels.astype(np.uint64) * factor), expected)
    swapped = labels.astype(labels.dtype.newbyteorder())
    np.testing.assert_array_equal(border_map(swapped), expected)


def test_huge_numbers_without_background() -> None:
    labels = np.array([[2**40, 2**50]], np.uint64)
    np.testing.assert_array_equal(border_map(labels), [[0, 0]])


def test_memory_order_does_not_matter() -> None:
    labels = random_labels("disks", 3)
    expected = border_map(labels)
    wide = np.zeros((2 * labels.shape[0], 3 * labels.shape[1]), labels.dtype)
    wide[::2, ::3] = labels
    np.testing.assert_array_equal(border_map(wide[::2, ::3]), expected)
    np.testing.assert_array_equal(border_map(np.asfortranarray(labels)), expected)
    labels.flags.writeable = False
    np.testing.assert_array_equal(border_map(labels), expected)


def test_leaves_the_labels_alone() -> None:
    labels = random_labels("disks", 3)
    before = labels.copy()
    border_map(labels)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("seed", range(5))
def test_turns_and_mirrors_with_the_map(seed: int) -> None:
    labels = random_labels("nested", seed)
    border = border_map(labels)
    for view in (np.flipud, np.fliplr, np.transpose, np.rot90):
        np.testing.assert_allclose(border_map(view(labels)), view(border), rtol=1e-6)


def test_falls_as_the_gap_widens() -> None:
    heights = []
    for gap in range(1, 26):
        labels = np.zeros((21, 60), np.uint16)
        labels[5:16, 5:15] = 1
        labels[5:16, 15 + gap : 25 + gap] = 2
        heights.append(border_map(labels)[10, 15 : 15 + gap].max())
    assert (np.diff(heights) < 0).all()
    assert heights[0] == pytest.approx(np.exp(-(2**2) / 50))


def test_rises_with_sigma() -> None:
    labels = random_labels("disks", 1)
    maps = [border_map(labels, sigma_pixels=sigma) for sigma in (1, 2, 5, 9)]
    assert (np.diff(maps, axis=0) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_stays_in_range_and_out_of_instances(kind: str) -> None:
    labels = random_labels(kind, 11)
    border = border_map(labels)
    assert border.dtype == np.float32
    assert border.shape == labels.shape
    assert (border[labels > 0] == 0).all()
    assert border.min() >= 0
    assert border.max() <= 1


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0), (1, 1), (1, 200), (200, 1)])
def test_sizes_without_room(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.uint16)
    labels.ravel()[:: max(labels.size - 1, 1)] = np.arange(1, 1 + min(labels.size, 2))
    np.testing.assert_allclose(border_map(labels), border_map_as_written(labels), **CLOSE)


def test_threads_do_not_disturb_each_other() -> None:
    maps = [random_labels("disks", seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as threads:
        for labels, border in zip(maps, threads.map(border_map, maps), strict=True):
            np.testing.assert_array_equal(border, border_map(labels))


@pytest.mark.parametrize("sigma_pixels", [0, -1.0, np.nan, np.inf])
def test_refuses_a_width_that_is_none(sigma_pixels: float) -> None:
    with pytest.raises(InputError, match=r"sigma_pixels=.* must be .*width of a border in pixels"):
        border_map(np.zeros((3, 3), np.uint16), sigma_pixels=sigma_pixels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 3, 1), np.uint16), r"shape \(3, 3, 1\)\) must be one NumPy array \(H, W\)"),
        (np.zeros(3, np.uint16), r"shape \(3,\)\) must be one NumPy array"),
        ([[0, 1]], r"labels \(list of shape \(1, 2\)\) must be one NumPy array"),
        (np.zeros((3, 3), np.float32), "dtype float32 must be integers"),
        (np.zeros((3, 3), bool), "dtype bool must be integers.*scipy.ndimage.label"),
        (np.full((3, 3), -4), "hold -4, but must be 0"),
    ],
)
def test_refuses_what_is_no_label_map(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        border_map(labels)
