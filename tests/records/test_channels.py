"""Grey images that were saved as colors, and colors that shall be grey."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.records.conversion import convert, read_source
from unet_keras.records.manifest import read_manifest
from unet_keras.records.origin import other_values
from unet_keras.sources.channels import fit_channels


def config(folder, *overrides):
    folders = [f"source.images={folder}/images", f"source.annotations={folder}/masks"]
    common = [
        "source.kind=folders",
        "source.mask_kind=labels",
        f"records.path={folder}/records",
        "records.workers=1",
    ]
    return load(overrides=[*folders, *common, *overrides])


def pairs(folder, images):
    """Pairs of images and label masks; `images` by file name, arrays or pictures."""
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
    for name, image in images.items():
        mask = np.zeros(np.shape(image)[:2], np.uint8)
        mask[4:9, 5:20], mask[12:20, 5:20] = 1, 2
        stem = name.partition(".")[0]
        Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")
        if name.endswith(".tif"):
            tifffile.imwrite(folder / "images" / name, image, planarconfig="contig")
        else:
            Image.fromarray(image).save(folder / "images" / name)
    return folder


@pytest.fixture
def grey(rng):
    return {f"{k}.png": rng.integers(0, 255, (24, 32)).astype(np.uint8) for k in range(5)}


def _as_json(source):
    return json.loads(json.dumps(asdict(source)))


def shards(folder):
    return [path.read_bytes() for path in sorted((folder / "records").glob("*.tfrecord*"))]


def test_grey_saved_as_color_makes_the_same_records(grey, tmp_path):
    plain = pairs(tmp_path / "plain", grey)
    colors = {name: np.stack([image] * 3, -1) for name, image in grey.items()}
    colored = pairs(tmp_path / "colored", colors)
    convert(config(plain))
    assert read_manifest(plain / "records").channels == 1
    assert convert(config(colored)).channels == 3
    known = convert(config(colored, "source.channels=1"))
    assert (known.channels, known.image_dtype) == (1, "uint8")
    assert shards(colored) == shards(plain)
    assert len(shards(plain)) > 1


def test_records_from_before_the_key_stay_valid(grey, tmp_path):
    folder = pairs(tmp_path, grey)
    convert(config(folder))
    before = {path: path.stat().st_mtime_ns for path in (folder / "records").iterdir()}
    made = json.loads((folder / "records/manifest.json").read_text())["configuration"]
    assert "channels" not in made
    convert(config(folder))
    assert {path: path.stat().st_mtime_ns for path in (folder / "records").iterdir()} == before
    asked = config(folder, "source.channels=3").source
    assert other_values(made, _as_json(asked)) == {"channels": (0, 3)}
    assert other_values(made, _as_json(config(folder).source)) == {}


def test_colors_become_luminance_and_grey_colors(grey, rng, tmp_path):
    color = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    folder = pairs(tmp_path, {**grey, "color.png": color})
    with pytest.raises(InputError, match=r"give source\.channels=1 \(grey\) or 3 first"):
        convert(config(folder))
    samples = {r.file_name: r.load() for r in read_source(config(folder, "source.channels=1"))}
    expected = np.asarray(Image.fromarray(color).convert("L"), int)
    np.testing.assert_allclose(samples["color.png"].image.astype(int), expected, atol=1)
    np.testing.assert_array_equal(samples["0.png"].image, grey["0.png"])
    samples = {r.file_name: r.load() for r in read_source(config(folder, "source.channels=3"))}
    np.testing.assert_array_equal(samples["color.png"].image, color)
    np.testing.assert_array_equal(samples["0.png"].image, np.stack([grey["0.png"]] * 3, -1))
    assert convert(config(folder, "source.channels=3")).channels == 3


def test_the_type_stays(rng):
    wide = rng.integers(0, 60000, (5, 6, 1)).astype(np.uint16)
    np.testing.assert_array_equal(fit_channels(np.repeat(wide, 3, -1), 1), wide)
    assert fit_channels(wide, 3).dtype == np.uint16


def test_what_is_neither_grey_nor_color_is_refused(rng, tmp_path):
    two = rng.integers(0, 255, (24, 32, 2)).astype(np.uint8)
    folder = pairs(tmp_path, {"two.tif": two})
    with pytest.raises(InputError, match=r"two\.tif has 2 channels, which source\.channels=1"):
        convert(config(folder, "source.channels=1"))
    with pytest.raises(InputError, match=r"source\.channels=2: .* one of \[0, 1, 3\]"):
        config(folder, "source.channels=2")


def test_other_sources_take_the_key_too(tmp_path):
    drawn = load(
        overrides=[
            "source.counts=[2,1,1]", "source.size=[64,80]", f"records.path={tmp_path}/r",
            "records.workers=1", "source.channels=3",
        ]
    )  # fmt: skip
    (tmp_path / "r").parent.mkdir(exist_ok=True)
    assert convert(drawn).channels == 3
    first = {path.name: path.read_bytes() for path in (tmp_path / "r").glob("*.tfrecord*")}
    assert convert(drawn).channels == 3
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").glob("*.tfrecord*")} == first


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_single_color_keeps_its_grey_values(channel, dtype, rng):
    """As nuclear stains are exported: as luminance, blue would lose nine tenths of its values."""
    grey = (200 * rng.random((20, 30))).astype(dtype)
    image = np.zeros((20, 30, 3), dtype)
    image[..., channel] = grey
    image[3, 4, (channel + 1) % 3] = 0.02 * grey.max()  # as JPEG leaves it
    np.testing.assert_array_equal(fit_channels(image, 1)[..., 0], grey)
    image[..., (channel + 1) % 3] = grey // 2
    assert not np.array_equal(fit_channels(image, 1)[..., 0], grey)


def test_parts_of_a_large_image_are_converted_alike(rng):
    image = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    image[:10, :, :2] = 0  # only blue in one half
    whole = fit_channels(image, 1)
    np.testing.assert_array_equal(fit_channels(image[:10], 1, whole=False), whole[:10])
