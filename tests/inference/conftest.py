import json

import keras
import numpy as np
import pytest
from PIL import Image

from tests.inference.random_cells import random_cells, separate
from unet_keras import predict
from unet_keras.model.unet import build_unet


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def make_model():
    """Small networks with batch statistics as after training; each kind is built once."""
    built = {}

    def make(**options):
        key = tuple(sorted(options.items()))
        if key not in built:
            settings = {"base_filters": 4, "depth": 2, "mean": 128.0, "scale": 40.0, **options}
            model = build_unet(**settings)
            generator = np.random.default_rng(3)
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.moving_mean.assign(generator.normal(0, 0.3, layer.moving_mean.shape))
                    layer.moving_variance.assign(generator.uniform(0.5, 2, layer.moving_mean.shape))
            built[key] = model
        return built[key]

    return make


@pytest.fixture(scope="session")
def same(make_model):
    return make_model()


@pytest.fixture(scope="session")
def valid(make_model):
    return make_model(padding="valid", normalization="none", num_classes=2)


@pytest.fixture(scope="session")
def bright():
    """A network that passes grey values on and calls cell what is brighter than 127.5."""
    model = build_unet(base_filters=2, depth=1, normalization="none", scale=255.0)
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    for name in ("down_1_conv_1", "down_1_conv_2", "up_1_conv_1", "up_1_conv_2"):
        kernel = np.zeros(model.get_layer(name).kernel.shape, np.float32)
        kernel[1, 1, 0, 0] = 1
        model.get_layer(name).kernel.assign(kernel)
    logits = model.get_layer("logits")
    logits.kernel.assign(np.reshape([40.0, 0.0], (1, 1, 2, 1)))
    logits.bias.assign([-20.0])
    return model


@pytest.fixture(scope="session")
def bright_file(bright, tmp_path_factory):
    path = tmp_path_factory.mktemp("bright") / "bright.keras"
    bright.save(path)
    return path


@pytest.fixture
def trained(bright, records, tmp_path):
    """A run that was trained on 8 bits, and knows the grey values that it saw."""
    path = tmp_path / "run"
    path.mkdir()
    bright.save(path / "model.keras")
    (path / "config.yaml").write_text("seed: 0\n")
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["image_dtype"] == "uint8"
    (path / "manifest.json").write_text(
        json.dumps({**manifest, "ranges": {"grey_mean": [120, 135]}})
    )
    return path


@pytest.fixture
def run(monkeypatch, capfd, caplog):
    """Run the predict command; return its exit status and what it said."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            predict.main()
        text = capfd.readouterr().err + caplog.text
        caplog.clear()
        return int(stop.value.code or 0), text

    return run


@pytest.fixture
def folder(rng, tmp_path):
    """A folder of one image, `a.png`."""
    path = tmp_path / "images"
    path.mkdir()
    Image.fromarray(rng.integers(0, 255, (40, 50)).astype(np.uint8)).save(path / "a.png")
    return path


@pytest.fixture
def cells(rng, tmp_path):
    """A folder of five images of bright squares."""
    path = tmp_path / "cells"
    path.mkdir()
    for number in range(5):
        image = rng.integers(0, 100, (40, 50)).astype(np.uint8)
        for top, left in rng.integers(0, 30, (4, 2)):
            image[top : top + 7, left : left + 7] = 255
        Image.fromarray(image).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="session")
def picture():
    labels = random_cells(1, size=(180, 230), count=120, radius=9)
    noise = np.random.default_rng(0).integers(0, 60, labels.shape)
    return (np.where(separate(labels) > 0, 170, 30) + noise).astype(np.uint8)
