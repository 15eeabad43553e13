import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from tests.targets.maps import KINDS, random_labels
from unet_keras.errors import InputError
from unet_keras.targets.distance import distance_map


def distance_map_as_written(labels: np.ndarray) -> np.ndarray:
    """Every pixel of an instance against every pixel that is not of it."""
    distances = np.zeros(labels.shape)
    for number in np.unique(labels[labels > 0]):
        inside, outside = np.argwhere(labels == number), np.argwhere(labels != number)
        if len(outside) == 0:
            return np.ones(labels.shape)
        squared = ((inside[:, None] - outside[None]) ** 2).sum(axis=-1).min(axis=1)
        distances[tuple(inside.T)] = np.sqrt(squared / squared.max())
    return distances


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_definition_on_random_maps(kind: str) -> None:
    for seed in range(25):
        labels = random_labels(kind, seed)
        np.testing.assert_allclose(
            distance_map(labels),
            distance_map_as_written(labels),
            rtol=1e-6,
            err_msg=f"{kind} {seed}",
        )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    labels=arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)
    ),
    stretch=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_is_the_definition_on_drawn_maps(labels: np.ndarray, stretch: tuple[int, int]) -> None:
    labels = np.kron(labels, np.ones(stretch, np.uint8))
    np.testing.assert_allclose(distance_map(labels), distance_map_as_written(labels), rtol=1e-6)


def test_is_one_distance_transform_an_instance_on_a_large_map() -> None:
    labels = np.zeros((900, 1100), np.uint32)
    y, x = np.indices(labels.shape)
    rng = np.random.default_rng(0)
    for k in range(1, 9):
        center = rng.uniform((0, 0), labels.shape)
        labels[np.hypot(y - center[0], x - center[1]) < rng.uniform(50, 400)] = 70_000 + k
    expected = np.zeros(labels.shape)
    for number in np.unique(labels[labels > 0]):
        distances = distance_transform_edt(labels == number)
        expected += distances / distances.max()
    np.testing.assert_allclose(distance_map(labels), expected, rtol=1e-6)


def test_is_exact_where_squares_pass_float32() -> None:
    labels = np.zeros((9, 12_000), np.uint8)
    labels[2:7, 11_003:11_010] = 1
    expected = np.zeros(labels.shape)
    expected[:, 11_000:11_020] = distance_map_as_written(labels[:, 11_000:11_020])
    np.testing.assert_allclose(distance_map(labels), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_instance_reaches_from_above_0_to_1(kind: str) -> None:
    labels = random_labels(kind, 5)
    distances = distance_map(labels)
    assert distances.dtype == np.float32
    assert (distances[labels == 0] == 0).all()
    for number in np.unique(labels[labels > 0]):
        inside = distances[labels == number]
        assert inside.min() > 0
        assert inside.max() == 1


def test_the_images_edge_is_no_edge() -> None:
    # So the map of a mirrored image is the mirrored map, as in crops over the border.
    for seed in range(10):
        labels = random_labels("disks", seed)
        height, width = labels.shape
        sides = ((height, height), (width, width))
        mirrored = distance_map(np.pad(labels, sides, mode="symmetric"))
        np.testing.assert_array_equal(
            mirrored, np.pad(distance_map(labels), sides, mode="symmetric")
        )


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (1, 80), (80, 1)])
def test_sizes_without_room(shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(distance_map(np.ones(shape, np.uint16)), np.ones(shape))
    np.testing.assert_array_equal(distance_map(np.zeros(shape, np.uint16)), np.zeros(shape))


def test_numbers_and_memory_order_do_not_matter() -> None:
    labels = random_labels("disks", 4)
    expected = distance_map(labels)
    np.testing.assert_array_equal(distance_map(np.asfortranarray(labels)), expected)
    np.testing.assert_array_equal(distance_map(labels.astype(np.int64) * 10**15), expected)
    np.testing.assert_array_equal(distance_map(labels[::-1]), expected[::-1])


def test_refuses_what_is_no_label_map() -> None:
    with pytest.raises(InputError, match="dtype float64 must be integers"):
        distance_map(np.zeros((3, 3)))
