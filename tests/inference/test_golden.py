"""Models that were saved on an earlier day (tests/golden/models.py) load and predict as then."""

from pathlib import Path

import numpy as np
import pytest

from unet_keras.inference.instances import label_instances
from unet_keras.inference.loading import open_predictor
from unet_keras.model.saved import load_model

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="module")
def known():
    with np.load(GOLDEN / "old_models.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", ["old_model.keras", "old_saved_model"])
def test_an_old_model_predicts_as_it_did(known, name):
    predictor = open_predictor(GOLDEN / name)
    for tile in (None, 16):
        found = predictor(known["image"], tile=tile)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, known["probabilities"], atol=1e-5)


def test_what_is_stored_tells_pixels_apart(known):
    """So that a network that predicts nothing would not pass."""
    assert known["probabilities"].std() > 0.1
    assert label_instances(known["probabilities"]).max() > 10


def test_an_old_model_states_what_it_did(known):
    predictor = open_predictor(GOLDEN / "old_saved_model")
    assert predictor.metadata["classes"] == ["background", "cell"]
    assert (predictor.channels, predictor.image_dtype) == (1, np.uint8)


@pytest.mark.slow
def test_an_old_model_can_be_trained_on(known):
    model = load_model(GOLDEN / "old_model.keras")
    model.compile("adam", "binary_crossentropy")
    images = known["image"][None, ..., None].astype("float32")
    before = [np.array(weight) for weight in model.get_weights()]
    model.fit(images, (images > 128).astype("float32"), verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
