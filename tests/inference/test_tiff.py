"""TIFF files read region by region are what they are as a whole."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_keras.errors import InputError
from unet_keras.inference.tiff import TiffRegions, write_tiled
from unet_keras.sources.channels import fit_channels
from unet_keras.sources.images import read_image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"byteorder": ">", "bigtiff": True},
        {"tile": (64, 48)},
        {"tile": (64, 48), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 17, "compression": "zlib"},
    ],
)
def test_regions_of_tiffs_are_what_tifffile_reads(rng, tmp_path, dtype, channels, layout):
    image = rng.integers(0, np.iinfo(dtype).max, (130, 117, *channels)).astype(dtype)
    path = tmp_path / "image.tif"
    kind = "rgb" if channels else "minisblack"
    tifffile.imwrite(path, image, photometric=kind, **layout)
    expected = image.reshape(130, 117, -1)
    with TiffRegions(path) as opened:
        assert (opened.shape, opened.dtype) == (expected.shape, dtype)
        for region in (np.s_[0:130, 0:117], np.s_[60:70, 40:117], np.s_[129:130, 0:1]):
            np.testing.assert_array_equal(opened[region], expected[region])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "samples", "options"),
    [
        (np.uint32, (), {}),
        (np.int16, (), {}),
        (np.float64, (), {}),
        (np.uint8, (3,), {"photometric": "rgb"}),
        (np.uint8, (4,), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (np.uint16, (4,), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        (np.uint8, (2,), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    ],
)
def test_regions_have_the_grey_values_of_whole_images(
    rng, tmp_path, dtype, samples, options, channels
):
    path = tmp_path / "image.tif"
    image = rng.integers(0, 250, (70, 90, *samples)).astype(dtype)
    tifffile.imwrite(path, image, tile=(64, 48), planarconfig="contig", **options)
    expected = fit_channels(read_image(path), channels)
    with TiffRegions(path, channels=channels) as opened:
        assert (opened.shape, opened.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(opened[0:70, 0:90], expected)
        np.testing.assert_array_equal(opened[60:70, 40:90], expected[60:70, 40:90])


@pytest.mark.parametrize("others", [0, 90])
def test_regions_of_a_single_color_have_its_grey_values(rng, tmp_path, others):
    """What looks like a single color in a part need not be one in the whole."""
    image = np.zeros((1100, 90, 3), np.uint8)
    image[..., 2] = rng.integers(0, 250, (1100, 90))
    image[1050:, :, 0] = others
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb")
    expected = fit_channels(image, 1)
    with TiffRegions(tmp_path / "image.tif", channels=1) as opened:
        np.testing.assert_array_equal(opened[0:1100, 0:90], expected)
        np.testing.assert_array_equal(opened[60:70, 40:90], expected[60:70, 40:90])
    assert np.array_equal(expected[..., 0], image[..., 2]) == (others == 0)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_one_sample_of_several_is_taken(rng, tmp_path, channels):
    image = rng.integers(0, 250, (70, 90, 4)).astype(np.uint16)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
    expected = fit_channels(image[..., 3], channels or 1)
    with TiffRegions(path, channels=channels, sample=3) as opened:
        assert opened.shape == expected.shape
        np.testing.assert_array_equal(opened[10:60, 0:90], expected[10:60])
    with pytest.raises(InputError, match=r"--channel 4: .*image\.tif holds 4 channels"):
        TiffRegions(path, sample=4)


def test_palettes_and_two_values_are_refused(tmp_path):
    path = tmp_path / "image.tif"
    for mode, message in (("P", "8 bits of PALETTE"), ("1", "1 bits of")):
        Image.new(mode, (64, 64)).save(path)
        with pytest.raises(InputError, match=rf"image\.tif has {message}.* save it so"):
            TiffRegions(path)


def test_tiled_files_are_ome_with_their_pixel_size(rng, tmp_path):
    values = rng.random((600, 530)).astype(np.float32)
    write_tiled(
        tmp_path / "x.ome.tif", values.shape, np.float32,
        lambda rows, columns: values[rows, columns], pixel_size=0.25,
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        assert file.is_ome
        assert file.is_bigtiff
        assert file.pages[0].is_tiled
        assert 'PhysicalSizeX="0.25"' in file.ome_metadata
        np.testing.assert_array_equal(file.asarray(), values)


def test_damage_is_named(tmp_path, picture):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, picture, tile=(64, 48), compression="zlib")
    whole = path.read_bytes()
    with TiffRegions(path) as opened:
        at = opened._leaf.dataoffsets[3]
    path.write_bytes(whole[:at] + bytes(50) + whole[at + 50 :])
    with TiffRegions(path) as opened, pytest.raises(InputError, match=r"cut\.tif cannot be read"):
        opened[0:180, 0:230]
    path.write_bytes(b"no tiff")
    with pytest.raises(InputError, match=r"cut\.tif cannot be read as a TIFF"):
        TiffRegions(path)
