"""What is decoded of files that clients post, and what is refused before it takes memory."""

import io

import numpy as np
import pytest
import tifffile

from unet_keras.web.limits import Refusal
from unet_keras.web.uploads import Upload, decode

from .files import bad_images


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_what_only_tifffile_reads_is_taken(rng, compression, tile):
    image = rng.integers(0, 2**16, (70, 45, 3), np.uint16)
    content = io.BytesIO()
    tifffile.imwrite(content, image, photometric="rgb", compression=compression, tile=tile)
    np.testing.assert_array_equal(decode(Upload("a.tif", content.getvalue()), pixels=9999), image)


@pytest.mark.parametrize("packed", [None, "zlib"])
def test_smaller_copies_of_a_pyramid_are_no_pages(rng, packed):
    image, content = rng.integers(0, 250, (64, 80), np.uint8), io.BytesIO()
    with tifffile.TiffWriter(content) as file:
        for level in range(3):
            small = image[:: 2**level, :: 2**level]
            file.write(small, subfiletype=int(level > 0), compression=packed)
    found = decode(Upload("a.tif", content.getvalue()), pixels=9999)
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("case", sorted(bad_images().keys() - {"bytes", "five channels"}))
def test_what_is_refused_by_its_content(case):
    content, status, text = bad_images()[case]
    with pytest.raises(Refusal) as refused:
        decode(Upload("x.tif", content), pixels=1_000_000)
    assert (refused.value.status, text in refused.value.message) == (status, True)
