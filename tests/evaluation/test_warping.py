"""Warping error: examples worked out by hand, and topology counted by components."""

import numpy as np
import pytest
from scipy import ndimage

from unet_keras.evaluation.warping import (
    WarpingErrors,
    count_warping_errors,
    simple_neighborhoods,
    warp_truth,
)

FOUR, EIGHT = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), np.ones((3, 3))


def picture(*rows):
    """A mask from text: # is foreground."""
    return np.array([[sign == "#" for sign in row] for row in rows])


def topology(mask):
    """Number of objects and of pieces of background, outside included."""
    framed = np.pad(mask, 1)
    return ndimage.label(framed, FOUR)[1], ndimage.label(~framed, EIGHT)[1]


def test_a_membrane_that_lies_elsewhere_costs_nothing():
    truth = picture(
        "##.###",
        "##.###",
        "##.###",
    )
    moved = picture(
        "###.##",
        "###.##",
        "###.##",
    )
    # Each row: the membrane's right neighbor is simple (background on its left only) and goes,
    # then the old membrane is simple (foreground on its left only) and is filled.
    np.testing.assert_array_equal(warp_truth(truth, moved), moved)
    assert count_warping_errors(truth, moved) == WarpingErrors(18, 0, 0, 0, 0)


def test_a_missing_stretch_of_membrane_is_a_merger_of_its_length():
    truth = picture(
        "###.###",
        "###.###",
        "###.###",
        "###.###",
    )
    merged = picture(
        "###.###",
        "#######",
        "#######",
        "###.###",
    )
    # Either pixel of the gap has foreground on both sides, two pieces: not simple. Both stay.
    np.testing.assert_array_equal(warp_truth(truth, merged), truth)
    errors = count_warping_errors(truth, merged)
    assert errors == WarpingErrors(pixels=28, mismatches=2, joining=2, mergers=1, splits=0)
    assert errors.warping_error == errors.warping_error_all == 2 / 28


def test_a_thick_membrane_that_is_missing_costs_a_line():
    truth = picture(
        "##..##",
        "##..##",
        "##..##",
    )
    merged = np.ones_like(truth)
    # Row by row, the left column of the membrane is filled: (0, 2) has foreground on its left
    # only and the background around it is one piece, so have (1, 2) and (2, 2). The right column
    # then has foreground on both sides. 3 of 18 pixels remain.
    expected = picture(
        "###.##",
        "###.##",
        "###.##",
    )
    np.testing.assert_array_equal(warp_truth(truth, merged), expected)
    assert count_warping_errors(truth, merged) == WarpingErrors(18, 3, 3, 1, 0)


def test_a_membrane_too_many_is_a_split_of_one_bridge():
    truth = np.ones((3, 5), bool)
    split = picture(
        "##.##",
        "##.##",
        "##.##",
    )
    # (0, 2) lies at the image's edge: background above it, foreground in one piece around. It is
    # cut off, then so is (1, 2). (2, 2) is the last bridge: left and right of it are two pieces.
    expected = picture(
        "##.##",
        "##.##",
        "#####",
    )
    np.testing.assert_array_equal(warp_truth(truth, split), expected)
    errors = count_warping_errors(truth, split)
    assert errors == WarpingErrors(pixels=15, mismatches=1, joining=1, mergers=0, splits=1)


def test_the_surest_pixels_are_flipped_first():
    truth = np.ones((4, 5), bool)
    probability = np.ones((4, 5), np.float32)
    probability[:, 2] = 0.1, 0.4, 0.3, 0.2
    # all four are predicted to be membrane; the first, the last and the third are cut off in this
    # order, from the image's edges inward, and the least sure one stays as the bridge
    warped = warp_truth(truth, probability)
    assert warped[:, 2].tolist() == [False, True, False, False]
    # a mask has no surest pixel: row by row, the last one stays
    assert warp_truth(truth, probability >= 0.5)[:, 2].tolist() == [False, False, False, True]


def test_objects_and_holes_are_neither_mergers_nor_splits():
    truth = picture(
        ".......",
        ".#####.",
        ".#####.",
        ".#####.",
        ".......",
    )
    prediction = truth.copy()
    prediction[2, 3] = False  # a hole: one pixel, all around it one piece of foreground
    prediction[0, 0] = True  # an object: it touches (1, 1) at a corner only
    errors = count_warping_errors(truth, prediction)
    assert errors == WarpingErrors(pixels=35, mismatches=2, joining=0, mergers=0, splits=0)
    assert (errors.warping_error, errors.warping_error_all) == (0.0, 2 / 35)
    # an object that is missing shrinks to a single pixel and stays
    assert count_warping_errors(truth, np.zeros_like(truth)).mismatches == 1


def test_cutting_a_ring_open_deletes_a_hole_and_splits_nothing():
    ring = picture(
        "#####",
        "#...#",
        "#...#",
        "#####",
    )
    opened = ring.copy()
    opened[0, 2] = False
    errors = count_warping_errors(ring, opened)
    assert (errors.mismatches, errors.splits, errors.joining) == (1, 0, 0)


def test_an_error_between_three_cells_counts_once():
    truth = picture(
        "##.##",
        "##.##",
        ".....",
        "#####",
    )
    errors = count_warping_errors(truth, np.ones_like(truth))
    assert errors.mergers == 1
    both = errors + errors
    assert (both.pixels, both.mergers) == (40, 2)
    assert both.warping_error == errors.warping_error
    assert WarpingErrors().warping_error == 0.0


def test_simple_neighborhoods_are_those_that_keep_local_topology():
    # a neighborhood alone: flipping its middle keeps objects and background pieces of the 3 x 3
    # window, once embedded so that opposite arms are not joined elsewhere
    for code, simple in enumerate(simple_neighborhoods()):
        ring = np.array([code >> bit & 1 for bit in range(8)], bool)
        before, after = (np.insert(ring, 4, middle).reshape(3, 3) for middle in (False, True))
        pieces = ndimage.label(before, FOUR)[0]
        beside = set(pieces[FOUR > 0]) - {0}
        around = ndimage.label(~after, EIGHT)[1]
        assert simple == (len(beside) == 1 and around == 1), code
    # turning and mirroring changes nothing
    ring = np.arange(256)[:, np.newaxis] >> np.arange(8) & 1
    for order in ([5, 3, 0, 6, 1, 7, 4, 2], [2, 1, 0, 4, 3, 7, 6, 5]):
        turned = ring[:, order] @ (1 << np.arange(8))
        np.testing.assert_array_equal(simple_neighborhoods()[turned], simple_neighborhoods())


@pytest.mark.parametrize("seed", range(40))
def test_warping_keeps_topology_and_leaves_nothing_that_could_be_flipped(seed):
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=(2, 40, 50)), (0, 2, 2))
    truth, prediction = noise[0] > 0, noise[0] + random.uniform(0, 1.5) * noise[1]
    probability = (1 / (1 + np.exp(-8 * prediction))).astype(np.float32)
    warped = warp_truth(truth, probability)
    assert topology(warped) == topology(truth)
    left = np.argwhere(warped != (probability >= 0.5))
    assert len(left) <= np.count_nonzero(truth != (probability >= 0.5))
    for row, column in left:
        flipped = warped.copy()
        flipped[row, column] ^= True
        window = np.pad(warped, 1)[row : row + 3, column : column + 3]
        alone = np.pad(flipped, 1)[row : row + 3, column : column + 3]
        assert topology(window) != topology(alone) or topology(flipped) != topology(warped)
