"""Images of other microscopes: grey values matched to the training's, whole and in parts."""

import json
from math import sqrt

import numpy as np
import pytest
import tifffile

from tests.inference.test_predict import rows
from unet_keras.errors import InputError
from unet_keras.inference import large
from unet_keras.inference.averaging import over_models
from unet_keras.inference.grey_values import MatchedRegions, TrainedOn, measure
from unet_keras.inference.loading import open_predictor
from unet_keras.inference.tiff import TiffRegions

TRAINED_ON = TrainedOn(128.0, 9.0, np.dtype("uint8"))


@pytest.fixture
def image(rng):
    """Bright discs on a darker ground, uint16 of few values."""
    y, x = np.mgrid[:60, :90]
    discs = ((y % 30 - 15) ** 2 + (x % 30 - 15) ** 2 < 60) * 40
    return (3000 + 10 * (discs + rng.integers(0, 9, (60, 90)))).astype(np.uint16)


def test_mean_and_deviation_become_the_trainings(image):
    for given in (image, image.astype(np.float32) / 65535, (image // 20).astype(np.uint8)):
        matched = TRAINED_ON.match(given)
        assert matched.dtype == np.uint8
        # Rounded, but nothing is cut: three deviations are far from 0 and 255.
        assert matched.mean() == pytest.approx(128, abs=0.5)
        assert matched.std() == pytest.approx(9, abs=0.5)
    exact = TrainedOn(128.0, 9.0, np.dtype("float32")).match(image)
    assert exact.mean() == pytest.approx(128, abs=1e-3)
    assert exact.std() == pytest.approx(9, abs=1e-3)
    assert np.corrcoef(exact.ravel(), image.ravel())[0, 1] == pytest.approx(1)


@pytest.mark.parametrize(("factor", "offset"), [(1, 5000), (13, 0), (3, 700), (0.25, 3)])
def test_exposure_makes_no_difference(image, factor, offset):
    other = image * np.float32(factor) + np.float32(offset)
    np.testing.assert_allclose(TRAINED_ON.match(other).astype(int), TRAINED_ON.match(image), atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("value", [0, 1, 200])
def test_a_flat_image_becomes_the_mean(dtype, value):
    np.testing.assert_array_equal(TRAINED_ON.match(np.full((7, 8, 1), value, dtype)), 128)


def test_values_beyond_the_type_are_cut():
    spike = np.zeros((100, 100), np.uint16)
    spike[50, 50] = 60000
    matched = TRAINED_ON.match(spike)
    assert matched.max() == 255
    assert matched[0, 0] == 128


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_parts_of_a_file_are_those_of_the_whole(image, tmp_path, dtype):
    tall = np.tile(image, (20, 1)).astype(dtype)
    tall[:600] += 50
    tifffile.imwrite(tmp_path / "tall.tif", tall, compression="zlib", rowsperstrip=64)
    with TiffRegions(tmp_path / "tall.tif", channels=1) as opened:
        regions = MatchedRegions(opened, measure(opened), TRAINED_ON)
        assert (regions.shape, regions.dtype) == ((1200, 90, 1), np.uint8)
        whole = TRAINED_ON.match(tall[..., np.newaxis])
        for rows_, columns in (np.s_[0:1200, 0:90], np.s_[590:610, 3:40]):
            np.testing.assert_array_equal(regions[rows_, columns], whole[rows_, columns])


@pytest.mark.parametrize("in_parts", [False, True])
def test_the_command_takes_16_bits(run, trained, image, tmp_path, monkeypatch, in_parts):
    tifffile.imwrite(tmp_path / "wide.tif", image)
    if in_parts:
        monkeypatch.setattr(large, "LARGEST_PIXELS", image.size - 1)
    told = run(trained, tmp_path / "wide.tif", "--output", tmp_path / "refused")
    assert told[0] == 1
    assert "or have --normalize do so" in told[1]
    out = tmp_path / "out"
    asked = ("--output", out, "--normalize", "--write", "csv,labels")
    status, text = run(trained, tmp_path / "wide.tif", *asked)
    assert status == 0, text
    labels = tifffile.imread(next(out.glob("wide_labels*")))
    predictor = open_predictor(trained, normalize=True)
    matched = predictor.normalized_to.match(image)
    np.testing.assert_array_equal(labels > 0, matched > 127)
    (count,) = rows(out / "counts.csv")
    # The image's own grey values, and nothing said against them.
    assert float(count["grey_mean"]) == pytest.approx(image.mean(), rel=1e-6)
    assert float(count["grey_deviation"]) == pytest.approx(image.std(), rel=1e-5)
    assert "grey" not in count["outside_training"]
    for cell in rows(out / "cells.csv"):
        inside = image[labels == int(cell["label"])]
        assert float(cell["mean_intensity"]) == pytest.approx(inside.mean(), rel=1e-6)


def test_what_was_done_without_is_not_taken_up(run, trained, image, tmp_path, monkeypatch):
    """A large image that was begun one way is not finished the other."""
    tifffile.imwrite(tmp_path / "a.tif", (image // 20).astype(np.uint8))
    monkeypatch.setattr(large, "LARGEST_PIXELS", image.size - 1)
    claim, identities = large.claim, []

    def noted(folder, identity):
        identities.append(json.dumps(identity))
        return claim(folder, identity)

    monkeypatch.setattr(large, "claim", noted)
    for more in ((), (), ("--normalize",)):
        run(trained, tmp_path / "a.tif", "--output", tmp_path / "out", "--write", "mask", *more)
    assert identities[0] == identities[1] != identities[2]


def test_each_of_an_ensemble_has_its_own(trained, image):
    predictor = open_predictor(trained, normalize=True)
    by_itself = predictor(image)
    np.testing.assert_array_equal(over_models([predictor, predictor])(image), by_itself)
    assert not np.array_equal(open_predictor(trained)(image.astype(np.uint8)), by_itself)


def test_a_file_that_knows_no_training_is_refused(run, bright_file, image, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", image)
    status, text = run(bright_file, tmp_path / "a.tif", "--output", tmp_path / "o", "--normalize")
    assert status == 2
    assert "does not say what grey values it was trained on" in text
    assert not (tmp_path / "o").exists()
    with pytest.raises(InputError, match="give the run folder"):
        open_predictor(bright_file, normalize=True)


def test_the_model_itself_says_whether(trained, image):
    known = json.loads((trained / "manifest.json").read_text())
    assert open_predictor(trained).normalized_to is None
    asked = open_predictor(trained, normalize=True)
    assert asked.normalized_to == TrainedOn(known["mean"], known["scale"], np.dtype("uint8"))
    assert asked.image_dtype is None
    assert asked.ranges is None, "its only range is one of grey values"
    shipped = open_predictor(_default())
    assert shipped.normalized_to is not None
    assert set(shipped.ranges) == {"cell_area"}
    assert open_predictor(_default(), normalize=False).normalized_to is None
    np.testing.assert_allclose(shipped(image), shipped(image / np.float32(65535)), atol=0.05)
    assert sqrt(np.square(shipped(image) - shipped(image + np.uint16(999))).mean()) < 0.01


def _default():
    from unet_keras.model.pretrained import resolve

    return resolve("default")
