"""A network as ONNX or OpenVINO, for programs without TensorFlow.

    images         float32 (B, H, W, C)   raw grey values; sizes as the Keras model takes them
    probabilities  float32 (B, H', W', K)  sigmoid (K = 1) or softmax

Keras converts; a network that computes in half precision is written in float32, which all runtimes
know. What comes out is run by the other runtime and must equal Keras before it is put
in its place. Same-padded networks take images of any size; those with valid convolutions take tiles
of their sizes (`model.geometry.valid_tile_sizes`), mirrored by the caller.
"""

import importlib.util
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from unet_keras.errors import InputError
from unet_keras.inference.serving import METADATA_FILE
from unet_keras.inference.writing import replace_folder
from unet_keras.model.geometry import geometry_of, map_channels, valid_tile_sizes

logger = logging.getLogger(__name__)

Format = Literal["onnx", "openvino"]
FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
# What conversion and comparison import.
NEEDED = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "openvino": ("openvino",)}
LARGEST_DIFFERENCE = 1e-4

Run = Callable[[np.ndarray], np.ndarray]


def demand_packages(format: Format) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        InputError: One is missing.
    """
    missing = [name for name in NEEDED[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"exporting to {format} needs {', '.join(missing)}: pip install 'unet_keras[{format}]'"
        )


def export_exchange(
    model: keras.Model, directory: Path, format: Format, *, metadata: dict[str, Any]
) -> float:
    """Write a network in a format of others, compared with Keras.

    Args:
        model: A network of `build_unet`, (B, H, W, C) -> logits.
        directory: Folder to write `model.onnx` or `model.xml` and `model.bin` to, with
            `metadata.json`; an export that is there is replaced.
        format: Which.
        metadata: What is to be known of the model.

    Returns:
        The largest difference of a probability from Keras's, at most `LARGEST_DIFFERENCE`.

    Raises:
        InputError: A package is missing, the folder holds something else, or the other runtime
            computes something else.
    """
    demand_packages(format)
    if directory.exists() and not (directory / FILES[format]).exists():
        raise InputError(f"{directory} is there and holds no {FILES[format]}: remove it first")
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        model = _in_float32(model)
        network = _with_probabilities(model)
        file = partial / FILES[format]
        with _constants_in_the_graph(model):
            network.export(str(file), format=format, verbose=False)
        run = _onnx_runtime(file) if format == "onnx" else _openvino_runtime(file)
        difference = _compare(network, run, _sizes(model), metadata)
        if not difference <= LARGEST_DIFFERENCE:
            raise InputError(
                f"{format} computes probabilities that differ from Keras's by {difference:.2g}, "
                f"more than {LARGEST_DIFFERENCE:g}: this version of it cannot be used"
            )
        text = json.dumps(metadata, indent=2, sort_keys=True)
        (partial / METADATA_FILE).write_text(text + "\n", encoding="utf-8")
        replace_folder(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return difference


def _in_float32(model: keras.Model) -> keras.Model:
    """Return the same network without casts to half precision."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def in_float32(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=in_float32)
    copy.set_weights(model.get_weights())
    return copy


def _with_probabilities(model: keras.Model) -> keras.Model:
    """Return the network with its last step, called once, as Keras wants it for ONNX."""
    images = keras.Input(model.input_shape[1:], name="images")
    logits, classes = model(images, training=False), model.output_shape[-1] - map_channels(model)
    activation = "sigmoid" if classes == 1 else "softmax"
    outputs = keras.layers.Activation(activation, dtype="float32", name="probabilities")(
        logits[..., :classes]
    )
    if classes < model.output_shape[-1]:  # regression maps stay as they are
        outputs = keras.layers.Concatenate(name="all")([outputs, logits[..., classes:]])
    network = keras.Model(images, outputs, name="unet")
    network(np.zeros((1, *_sizes(model)[0], model.input_shape[-1]), np.float32))
    return network


@contextmanager
def _constants_in_the_graph(model: keras.Model) -> Iterator[None]:
    """Let normalization hold arrays; tensors of its own, tf2onnx takes for further inputs."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    kept = [(layer, layer.mean, layer.variance) for layer in layers]
    try:
        for layer, mean, variance in kept:
            layer.mean, layer.variance = np.asarray(mean), np.asarray(variance)
        yield
    finally:
        for layer, mean, variance in kept:
            layer.mean, layer.variance = mean, variance


def _sizes(model: keras.Model) -> list[tuple[int, int]]:
    """Two sizes that the network takes, of different proportions."""
    geometry = geometry_of(model)
    if geometry.padding == "same":
        return [(64, 64), (45, 83)]
    first, second, *_ = valid_tile_sizes(geometry.depth)
    return [(first, first), (first, second)]


def _compare(
    network: keras.Model, run: Run, sizes: list[tuple[int, int]], metadata: dict[str, Any]
) -> float:
    """Return the largest difference on noise with the grey values of the training."""
    rng = np.random.default_rng(0)
    grey = metadata.get("normalization", {"mean": 128.0, "scale": 50.0})
    largest = 0.0
    for size in sizes:
        shape = (2, *size, network.input_shape[-1])
        images = rng.normal(grey["mean"], grey["scale"], shape).astype(np.float32)
        difference = np.abs(run(images) - np.asarray(network(images, training=False)))
        largest = max(largest, float(difference.max()))
    return largest


def _onnx_runtime(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _openvino_runtime(file: Path) -> Run:
    import openvino

    # Some processors would compute in fewer bits, which is the user's choice and no error of ours.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(file), "CPU", exact)
    return lambda images: compiled(images)[0]
