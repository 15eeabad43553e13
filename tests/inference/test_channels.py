"""Stacks of several channels, as ImageJ and microscopes write them: which pages are segmented."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.inference.test_predict import rows
from unet_keras.errors import InputError
from unet_keras.inference.pictures import find_pictures


def pages(path, **chosen):
    return [picture.page for picture in find_pictures([str(path)], **chosen)]


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize(
    ("axes", "shape", "first", "second"),
    [
        ("TCYX", (3, 2, 20, 30), [0, 2, 4], [1, 3, 5]),
        ("ZCYX", (2, 2, 20, 30), [0, 2], [1, 3]),
        ("CYX", (2, 20, 30), [0], [1]),
        ("TZCYX", (2, 2, 3, 20, 30), [0, 3, 6, 9], [1, 4, 7, 10]),
    ],
)
def test_pages_of_a_channel_are_those_that_the_file_names(
    kind, axes, shape, first, second, rng, tmp_path
):
    path = tmp_path / "stack.tif"
    data = rng.integers(0, 255, shape).astype(np.uint8)
    tifffile.imwrite(path, data, metadata={"axes": axes}, **{kind: True})
    assert (pages(path, channel=0), pages(path, channel=1)) == (first, second)
    held = axes.index("C")
    for number in (0, 1):
        for picture, expected in zip(
            find_pictures([str(path)], channel=number),
            np.take(data, number, held).reshape(-1, 20, 30),
            strict=True,
        ):
            np.testing.assert_array_equal(picture.read(), expected)
    with pytest.raises(InputError, match=f"holds {shape[held]} channels, counted from 0"):
        pages(path, channel=shape[held])


def test_all_pages_are_taken_and_told_of_where_nobody_chooses(rng, tmp_path, caplog):
    for name in ("a", "b"):
        data = rng.integers(0, 255, (3, 2, 20, 30)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", data, imagej=True, metadata={"axes": "TCYX"})
    assert pages(tmp_path) == [*range(6)] * 2
    assert len(caplog.messages) == 1
    assert "a.tif holds 2 channels (and 1 file more alike): all of them" in caplog.text


@pytest.mark.parametrize("named", [{}, {"imagej": True, "metadata": {"axes": "TYX"}}])
def test_what_has_one_channel_or_does_not_say(named, rng, tmp_path, caplog):
    data = rng.integers(0, 255, (4, 20, 30)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", data, photometric="minisblack", **named)
    tifffile.imwrite(tmp_path / "rgb.tif", np.stack([data[0]] * 3, -1), photometric="rgb")
    assert pages(tmp_path / "s.tif") == pages(tmp_path / "s.tif", channel=0) == [0, 1, 2, 3]
    assert pages(tmp_path / "rgb.tif", channel=0) == [None]
    assert not caplog.messages
    for name in ("s", "rgb"):
        pictures = find_pictures([str(tmp_path / f"{name}.tif")], channel=3)
        with pytest.raises(InputError, match=rf"{name}\.tif holds . channels?, counted from 0"):
            pictures[0].read()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_one_channel_of_each_pixel(planar, run, bright_file, rng, tmp_path):
    image = rng.integers(0, 90, (40, 50, 2)).astype(np.uint8)
    image[5:20, 5:20, 1] = 255
    path, out = tmp_path / "a.tif", tmp_path / "out"
    stored = image if planar == "contig" else np.moveaxis(image, -1, 0)
    tifffile.imwrite(path, stored, planarconfig=planar, photometric="minisblack", extrasamples=[0])
    status, text = run(bright_file, path, "--output", out)
    assert status == 1
    assert "has 2 channels, but the network takes 1: --channel 0 takes" in text
    assert run(bright_file, path, "--output", out, "--channel", 1, "--write", "csv,mask")[0] == 0
    mask = np.asarray(Image.open(out / "a_mask.png"))
    np.testing.assert_array_equal(mask > 0, image[..., 1] == 255)
    assert float(rows(out / "counts.csv")[0]["grey_mean"]) == pytest.approx(image[..., 1].mean())


def test_the_command_segments_one_channel(run, bright_file, rng, tmp_path):
    phase = np.zeros((2, 40, 50), np.uint8)
    phase[0, 5:20, 5:20] = phase[1, 10:30, 10:30] = 255
    other = np.full((2, 40, 50), 255, np.uint8)
    path = tmp_path / "s.tif"
    stack = np.stack([other, phase], 1)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TCYX"})
    out = tmp_path / "out"
    assert run(bright_file, path, "--output", out, "--channel", 1, "--write", "csv,mask")[0] == 0
    counts = rows(out / "counts.csv")
    assert [row["image"] for row in counts] == ["s.tif page 1", "s.tif page 3"]
    assert [float(row["confluency"]) for row in counts] == [225 / 2000, 400 / 2000]
    assert sorted(file.name for file in out.glob("*_mask.png")) == ["s-1_mask.png", "s-3_mask.png"]
    for asked, said in (("2", "holds 2 channels, counted from 0"), ("-1", "must be at least 0\n")):
        status, text = run(bright_file, path, "--output", tmp_path / "no", f"--channel={asked}")
        assert status == 2
        assert said in text
        assert not (tmp_path / "no").exists()
