"""Pictures: sizes, ranges, colors where they belong; files whole or not at all."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_keras import drawing


@pytest.fixture
def cells():
    labels = np.zeros((40, 50), np.uint16)
    labels[5:20, 5:20], labels[5:20, 20:35], labels[25:35, 10:40] = 1, 2, 7
    return labels


@pytest.mark.parametrize(
    "image",
    [
        np.arange(4000, dtype=np.uint16).reshape(50, 80),
        np.linspace(-3, 9, 600, dtype=np.float32).reshape(20, 30),
        np.arange(600, dtype=np.uint8).reshape(10, 20, 3),
    ],
)
def test_to_uint8_uses_the_whole_range_and_keeps_the_order(image):
    picture = drawing.to_uint8(image)
    assert picture.shape == image.shape
    assert (picture.min(), picture.max()) == (0, 255)
    order = np.argsort(image, axis=None)
    assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()


def test_to_uint8_ignores_outliers_and_survives_odd_images():
    image = np.tile(np.linspace(100, 150, 100), (100, 1))
    image[0, 0] = 65_535
    assert drawing.to_uint8(image)[50, 60] > 100
    assert set(np.unique(drawing.to_uint8(np.full((5, 5), 77)))) == {128}
    assert set(np.unique(drawing.to_uint8(np.full((5, 5), np.nan)))) == {128}
    spot = np.zeros((100, 100))
    spot[3, 3] = 1
    assert drawing.to_uint8(spot)[3, 3] == 255
    spot[4, 4] = np.nan
    assert drawing.to_uint8(spot)[4, 4] == 0


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 5])
def test_to_rgb_of_any_number_of_channels(channels):
    image = np.random.default_rng(0).integers(0, 255, (6, 8, channels or 1), np.uint8)
    picture = drawing.to_rgb(image if channels else image[..., 0])
    assert (picture.shape, picture.dtype) == ((6, 8, 3), np.uint8)
    if channels == 2:
        assert not picture[..., 2].any()


def test_instances_have_colors_of_their_own(cells):
    picture = drawing.colorize_labels(cells)
    assert not picture[cells == 0].any()
    assert len(np.unique(drawing.instance_colors(np.arange(200)), axis=0)) == 200
    # the same number has the same color in every picture, however large it is
    alone = drawing.colorize_labels(np.where(cells == 7, 7, 0).astype(np.uint32))
    np.testing.assert_array_equal(alone[30, 20], picture[30, 20])
    assert drawing.colorize_labels(np.full((2, 2), 2**32 - 1, np.uint32)).any()


def test_outlines_part_touching_instances_and_leave_the_inside(cells):
    rim = drawing.outlines(cells)
    assert rim[10, 19]
    assert rim[10, 20]
    assert not rim[10, 10]
    assert not rim[cells == 0].any()
    assert not drawing.outlines(np.ones((4, 4), int)).any()


def test_overlay_leaves_the_background_alone(cells):
    image = np.random.default_rng(0).integers(0, 255, cells.shape, np.uint8)
    picture = drawing.overlay(image, cells)
    np.testing.assert_array_equal(picture[cells == 0], drawing.to_rgb(image)[cells == 0])
    assert (picture[cells > 0] != drawing.to_rgb(image)[cells > 0]).any(-1).mean() > 0.9


def test_error_map_shows_each_kind_of_error_in_its_color():
    truth = np.array([[1, 1, 0, 0]], bool)
    mask = np.array([[1, 0, 1, 0]], np.uint8) * 255
    picture = drawing.error_map(np.zeros((1, 4)), truth, mask).astype(int)

    def nearest(pixel):
        colors = (drawing.RIGHT, drawing.FALSE_NEGATIVE, drawing.FALSE_POSITIVE)
        return int(np.argmin([np.abs(pixel - color).sum() for color in colors]))

    assert [nearest(pixel) for pixel in picture[0, :3]] == [0, 1, 2]
    assert np.ptp(picture[0, 3]) == 0


def test_match_map_marks_missed_and_false_instances(cells):
    predicted = np.where(cells == 7, 0, cells)
    picture = drawing.match_map(np.zeros(cells.shape), cells, predicted, missed=[7], false=[2])
    np.testing.assert_array_equal(picture[25, 20], drawing.FALSE_NEGATIVE)
    np.testing.assert_array_equal(picture[5, 25], drawing.FALSE_POSITIVE)
    np.testing.assert_array_equal(picture[5, 10], drawing.RIGHT)


def test_probability_map_rises_in_brightness():
    picture = drawing.probability_map(np.linspace(0, 1, 50)[np.newaxis])
    assert (np.diff(picture.astype(int).sum(-1)[0]) >= 0).mean() > 0.9


def test_warped_grid_of_the_identity_is_straight_and_of_a_shift_shifted():
    identity = np.stack(np.mgrid[:64, :80], axis=-1).astype(np.float32)
    straight = drawing.warped_grid(identity)
    assert straight.shape == (64, 80, 3)
    dark = straight[..., 0] < 100
    assert dark[16].all()
    assert dark[:, 32].all()
    assert not dark[8:12, 8:12].any()
    moved = drawing.warped_grid(identity + np.array([5, 0], np.float32))[..., 0] < 100
    assert moved[11].all()
    np.testing.assert_array_equal(drawing.warped_grid(np.moveaxis(identity, -1, 0)), straight)
    on_image = drawing.warped_grid(identity, image=np.zeros((64, 80)))
    assert (on_image[8:12, 8:12] == 128).all()
    with pytest.raises(ValueError, match=r"shape \(64, 80\); expected"):
        drawing.warped_grid(identity[..., 0])


def test_panel_places_every_picture(cells):
    mask, wide = cells > 0, np.zeros((10, 90, 3), np.uint8)
    plain = drawing.panel([[mask, mask], [wide]], gap_pixels=4)
    assert plain.shape == (40 + 4 + 10, 90 + 4 + 50, 3)
    np.testing.assert_array_equal(plain[:40, :50, 0] > 0, mask)
    np.testing.assert_array_equal(plain[:40, 94:144, 0] > 0, mask)
    assert not plain[44:, :90].any()
    assert (plain[44:, 94:] == 255).all()
    titled = drawing.panel([[mask, mask], [wide]], ["image", "truth"], captions=["one", "two"])
    assert titled.shape[0] > plain.shape[0]
    assert (titled[:16] < 128).any()
    with pytest.raises(ValueError, match="no picture"):
        drawing.panel([[]])


def test_a_title_wider_than_its_column_is_drawn_whole():
    black = np.zeros((20, 30, 3), np.uint8)
    titles = ["image", "weights 0 to 11.5"]
    narrow = drawing.panel([[black, black]], titles)
    roomy = drawing.panel([[black, np.zeros((20, 300, 3), np.uint8)]], titles)

    def last_ink(picture):
        return np.flatnonzero((picture[:14] < 128).any(axis=(0, 2))).max()

    assert last_ink(narrow) - narrow.shape[1] < 0
    assert last_ink(narrow) == last_ink(roomy)


def test_shrink_keeps_proportions_and_never_enlarges():
    picture = np.zeros((100, 40, 3), np.uint8)
    assert drawing.shrink(picture, 50).shape == (50, 20, 3)
    assert drawing.shrink(picture, 100) is picture


@pytest.mark.parametrize(
    "array",
    [
        np.eye(9, 7, dtype=bool),
        np.arange(63, dtype=np.uint8).reshape(9, 7),
        np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000,
        np.arange(189, dtype=np.uint8).reshape(9, 7, 3),
    ],
)
def test_write_png_comes_back_and_replaces(tmp_path, array):
    path = tmp_path / "new" / "picture.png"
    drawing.write_png(path, np.zeros((3, 3), np.uint8))
    drawing.write_png(path, array)
    found = np.array(Image.open(path))
    np.testing.assert_array_equal(found, array * np.uint8(255) if array.dtype == bool else array)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_write_png_refuses_what_png_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: cannot write float64 \(3, 3\) as PNG"):
        drawing.write_png(tmp_path / "a.png", np.zeros((3, 3)))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.png'"):
        drawing.write_png(tmp_path / "a.png", np.zeros((3, 4), np.uint8))
    assert not list(tmp_path.iterdir())
