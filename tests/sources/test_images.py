"""Every format gives the values that were stored; what is no image says so in one line."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_keras.errors import InputError
from unet_keras.sources.images import page_count, read_image, read_mask
from unet_keras.sources.listing import list_images

LIVECELL = Path(os.environ.get("LIVECELL_SAMPLE", "../shared/data/livecell_sample"))


def values(rng, dtype, shape=(13, 17)):
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=shape) * 1e4).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("shape", [(13, 17), (13, 17, 3)])
def test_eight_bits(suffix, shape, rng, tmp_path):
    pixels = values(rng, "uint8", shape)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_compressed_tiff(compression, rng, tmp_path):
    pixels = values(rng, "uint8")
    Image.fromarray(pixels).save(
        tmp_path / "a.tif",
        compression=compression,
        tiffinfo={317: 2} if "lzw" in compression else {},
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", "uint8"),
        ("int8", "float32"),
        ("uint16", "uint16"),
        ("int16", "float32"),
        ("uint32", "float32"),
        ("int32", "float32"),
        ("float32", "float32"),
        ("float64", "float32"),
    ],
)
def test_every_number_of_tiff(dtype, expected, byteorder, rng, tmp_path):
    pixels = values(rng, dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder, photometric="minisblack")
    read = read_image(tmp_path / "a.tif")
    assert read.dtype == expected
    np.testing.assert_array_equal(read, pixels.astype(expected))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_values_are_those_stored_where_white_is_zero(dtype, rng, tmp_path):
    """ImageJ saves masks with an inverted table so, with 255 for foreground."""
    pixels = values(rng, dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    for read in (read_image, read_mask):
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_two_values_are_those_stored(photometric, rng, tmp_path):
    mask = values(rng, "uint8") > 200
    tifffile.imwrite(tmp_path / "a.tif", mask, photometric=photometric)
    for read, white in ((read_image, 255), (read_mask, 1)):
        found = read(tmp_path / "a.tif")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.where(mask, white, 0))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_colors_of_tiff_keep_their_depth(dtype, planar, rng, tmp_path):
    pixels = values(rng, dtype, (13, 17, 3))
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_numbers_of_channels(channels, dtype, rng, tmp_path):
    """Pillow knows no five channels, and takes the second of two for nothing."""
    path, pixels = tmp_path / "a.tif", values(rng, dtype, (13, 17, channels))
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_image(path), pixels)
    assert page_count(path) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("photometric", "channels"), [("minisblack", 1), ("rgb", 3)])
def test_alpha_is_dropped_whatever_the_depth(photometric, channels, dtype, rng, tmp_path):
    pixels = values(rng, dtype, (13, 17, channels + 1))
    kind = {"photometric": photometric, "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **kind)
    expected = pixels[..., 0] if channels == 1 else pixels[..., :channels]
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_sixteen_bit_png(rng, tmp_path):
    pixels = values(rng, "uint16")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(("channels", "kept"), [(2, 1), (3, 3), (4, 3)])
def test_sixteen_bit_color_png_is_not_cut_but_for_its_alpha(rng, tmp_path, channels, kept):
    import tensorflow as tf

    pixels = values(rng, "uint16", (13, 17, channels))
    file = tf.io.encode_png(pixels).numpy()
    (tmp_path / "a.png").write_bytes(file)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels[..., :kept].squeeze())
    (tmp_path / "a.png").write_bytes(file[:200])
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")


def test_jpeg_is_close(tmp_path):
    pixels = np.tile(np.arange(0, 160, 2, dtype=np.uint8), (40, 1))
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    read = read_image(tmp_path / "a.jpg")
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read.astype(int), pixels, atol=4)


def test_palettes_alpha_and_two_values(tmp_path):
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(indices, "P")
    palette.putpalette([channel for k in range(256) for channel in (k, 0, 255 - k)])
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png")[0, 1].tolist() == [1, 0, 254]
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png"), indices)

    color = np.stack([indices] * 3, -1)
    Image.fromarray(np.dstack([color, indices])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), color)
    Image.fromarray(np.dstack([indices, indices])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), indices)

    Image.fromarray(indices > 5).save(tmp_path / "two.png")
    for read, white in ((read_image, 255), (read_mask, 1)):
        np.testing.assert_array_equal(
            read(tmp_path / "two.png"), np.where(indices > 5, np.uint8(white), np.uint8(0))
        )


def packed_png(numbers, bits):
    """A grey PNG of so many bits a pixel, which Pillow reads but does not write."""
    width = numbers.shape[1]
    places = np.unpackbits(numbers[..., None], axis=-1)[..., 8 - bits :].reshape(len(numbers), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in places)
    header = struct.pack(">2I5B", width, len(numbers), bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_masks_of_few_bits_keep_their_numbers(suffix, bits, tmp_path):
    numbers = np.arange(24, dtype=np.uint8).reshape(3, 8) % 2**bits
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(packed_png(numbers, bits))
    if suffix == "tif":
        packed = np.unpackbits(numbers[..., None], axis=-1)[..., 8 - bits :].reshape(3, -1)
        tags = {256: 8, 257: 3, 258: bits, 259: 1, 262: 1, 273: 0, 277: 1, 278: 3, 279: 3 * bits}
        path.write_bytes(packed_tiff(tags, np.packbits(packed).tobytes()))
    np.testing.assert_array_equal(read_mask(path), numbers)
    grey = read_image(path)
    np.testing.assert_array_equal(grey, numbers * (255 // (2**bits - 1)))


def packed_tiff(tags, pixels):
    """A TIFF of one strip, whose place is filled in."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<2H2I", tag, 4, 1, start if tag == 273 else value)
        for tag, value in tags.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32"])
def test_masks_keep_their_numbers(dtype, rng, tmp_path):
    numbers = rng.integers(0, min(np.iinfo(dtype).max, 3_000_000), (13, 17)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    read = read_mask(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, numbers)


def test_masks_of_equal_colors_are_grey_and_others_refused(rng, tmp_path):
    numbers = values(rng, "uint8")
    Image.fromarray(np.dstack([numbers] * 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), numbers)
    Image.fromarray(values(rng, "uint8", (4, 4, 3))).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"mask .*b\.png has 3 channels; .* grey or palette"):
        read_mask(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.tif", numbers.astype(np.float32))
    np.testing.assert_array_equal(read_mask(tmp_path / "c.tif"), numbers)
    tifffile.imwrite(tmp_path / "d.tif", numbers / np.float32(3))
    with pytest.raises(InputError, match=r"d\.tif holds fractions"):
        read_mask(tmp_path / "d.tif")
    for dtype in (np.int16, np.float32):
        tifffile.imwrite(tmp_path / "e.tif", np.array([[1, -1]], dtype))
        with pytest.raises(InputError, match=r"e\.tif holds -1; .* not annotated as 0"):
            read_mask(tmp_path / "e.tif")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "holds NaN or infinity; .* not annotated as 0"),
        (np.inf, "holds NaN or infinity"),
        (1e30, r"holds 1e\+30, which is no label number; those are at most 4294967295"),
        (-1e30, r"holds -1e\+30, which is no label number"),
    ],
)
def test_masks_of_what_is_no_number_are_refused(value, message, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, value]], np.float64))
    with pytest.raises(InputError, match=rf"mask .*a\.tif {message}"):
        read_mask(tmp_path / "a.tif")


@pytest.mark.filterwarnings("error")
def test_complex_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4), np.complex64))
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=r"a\.tif holds complex numbers.* magnitude"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_cut_files_are_named(suffix, rng, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values(rng, "uint8", (60, 80))).save(path)
    whole = path.read_bytes()
    for share in (0.0, 0.02, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        said = rf"a\.{suffix} (cannot be read as an image|is cut off)"
        with pytest.raises(InputError, match=said) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_cut_tiffs_that_list_their_pages_last_are_told(rng, tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(values(rng, "uint8", (60, 80))).save(path, compression="tiff_lzw")
    path.write_bytes(path.read_bytes()[:-1000])
    for read in (read_image, read_mask, page_count):
        with pytest.raises(InputError, match=r"a\.tif is cut off \(its pages are listed"):
            read(path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(InputError, match=r"no permission to read the image .*a\.png"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_other_files_are_named(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_text("this is a text, not an image")
    for read in (read_image, read_mask, page_count):
        with pytest.raises(InputError, match=rf"a\.{suffix} cannot be read as an image"):
            read(path)


def test_absent_files_are_named(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        for read in (read_image, read_mask, page_count):
            with pytest.raises(InputError, match=rf"No image at {path}"):
                read(path)


@pytest.mark.skipif(not LIVECELL.is_dir(), reason="the LIVECell sample is not here")
def test_livecell_is_read():
    files = list_images(LIVECELL / "images", recursive=True)
    assert len(files) == 18
    for file in files:
        read = read_image(file)
        assert (read.dtype, read.shape) == (np.uint8, (520, 704))
        assert 100 < read.mean() < 150
