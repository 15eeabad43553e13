"""ONNX and OpenVINO give Keras's probabilities, whatever the size; where they are installed."""

import importlib.util
import json

import keras
import numpy as np
import pytest

from unet_keras.errors import InputError
from unet_keras.inference import exchange
from unet_keras.inference.tiling import predict_tiled
from unet_keras.model.saved import load_model
from unet_keras.training.resume import save_network

METADATA = {"normalization": {"mean": 128.0, "scale": 40.0}, "classes": ["background", "cell"]}
pytestmark = pytest.mark.slow
quiet = pytest.mark.filterwarnings("ignore")  # those of the converters


def needs(format):
    missing = [n for n in exchange.NEEDED[format] if importlib.util.find_spec(n) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def runtime(format, folder):
    """Predict with the other runtime as a user would, without our code."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        assert [given.name for given in session.get_inputs()] == ["images"]
        return lambda images: session.run(None, {"images": images})[0]
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", exact)
    return lambda images: compiled(images)[0]


@quiet
@pytest.mark.parametrize(
    "format",
    [pytest.param("onnx", marks=needs("onnx")), pytest.param("openvino", marks=needs("openvino"))],
)
def test_another_runtime_gives_what_keras_gives(same, make_model, rng, tmp_path, format):
    colors = make_model(input_channels=3, num_classes=3, normalization="group")
    distance = make_model(num_classes=3, regression_maps=1)
    for number, model in enumerate((same, colors, distance)):
        save_network(model, tmp_path / "model.keras")  # as training does
        model = load_model(tmp_path / "model.keras")
        folder = tmp_path / str(number)
        assert exchange.export_exchange(model, folder, format, metadata=METADATA) <= 1e-4
        run = runtime(format, folder)
        for size in ((1, 1), (61, 34), (48, 64)):
            image = rng.integers(0, 256, (*size, model.input_shape[-1]), dtype=np.uint8)
            found = run(image[None].astype(np.float32))[0]
            np.testing.assert_allclose(found, predict_tiled(model, image), atol=1e-4)
        assert json.loads((folder / "metadata.json").read_text()) == METADATA
    # the model is as it was
    (tmp_path / "model.keras").unlink()
    again = tmp_path / "0"
    exchange.export_exchange(same, again, format, metadata={**METADATA, "second": True})
    assert json.loads((again / "metadata.json").read_text())["second"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


@quiet
@needs("onnx")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_written_in_float32(make_model, rng, tmp_path, policy):
    """As `train.precision=auto` trains on a GPU, and on CPUs that compute in bfloat16."""
    keras.config.set_dtype_policy(policy)
    try:
        model = make_model(num_classes=3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert exchange.export_exchange(model, tmp_path / "m", "onnx", metadata=METADATA) <= 1e-4
    image = rng.integers(0, 256, (48, 64, 1), dtype=np.uint8)
    found = runtime("onnx", tmp_path / "m")(image[None].astype(np.float32))[0]
    expected = predict_tiled(model, image)
    assert 0 < np.abs(found - expected).max() < 0.05, "half precision differs a little"


@quiet
@needs("onnx")
def test_valid_convolutions_take_their_tiles(valid, rng, tmp_path):
    assert exchange.export_exchange(valid, tmp_path / "m", "onnx", metadata=METADATA) <= 1e-4


@quiet
@needs("onnx")
def test_what_computes_something_else_is_not_kept(same, tmp_path, monkeypatch):
    honest = exchange._onnx_runtime
    monkeypatch.setattr(
        exchange, "_onnx_runtime", lambda file: lambda images: honest(file)(images) + 0.01
    )
    with pytest.raises(InputError, match=r"differ from Keras's by 0\.01"):
        exchange.export_exchange(same, tmp_path / "m", "onnx", metadata=METADATA)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(same, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs openvino: pip install 'unet_keras\[openvino\]'"):
        exchange.export_exchange(same, tmp_path / "m", "openvino", metadata={})


def test_other_folders_are_not_replaced(same, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "demand_packages", lambda format: None)
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match=r"holds no model\.onnx"):
        exchange.export_exchange(same, tmp_path, "onnx", metadata={})
    assert (tmp_path / "thesis.txt").exists()
