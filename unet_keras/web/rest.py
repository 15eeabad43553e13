"""TensorFlow Serving's REST format for `predict`, with the signatures of the SavedModel.

    {"instances": [image, ...]}                                   row by row
    {"inputs": {"images": [image, ...], "tile": 512},             by input
     "signature_name": "tiled"}
    {"signature_name": "encoded", "instances": [{"b64": "..."}]}  PNG or JPEG files

An image is a nested list (H, W, C) of raw grey values. The answer to rows is `predictions`, a list,
to inputs `outputs`; what has one output is not named, as TensorFlow Serving does it
(tensorflow.org/tfx/serving/api_rest). All images of a request have one size, but for encoded ones.
Tiles are at least 256 and at most 1,024 pixels wide, whatever is asked for.
"""

import base64
import binascii
import json
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.inference.loading import Predictor
from unet_keras.web.limits import Limits, Refusal, tile_for
from unet_keras.web.uploads import Upload, decode, fit, too_many_images

# A probability takes about 20 characters in JSON, and 32 bytes of Python on the way there.
JSON_PIXELS = 4_000_000
SIGNATURES = {
    "serving_default": ("images",),
    "tiled": ("images", "tile"),
    "encoded": ("encoded",),
}


def predict(body: bytes, predictor: Predictor, limits: Limits) -> dict[str, Any]:
    """Answer a predict request.

    Args:
        body: Of the request, JSON.
        predictor: The network.
        limits: Of the request.

    Returns:
        `predictions` or `outputs`, for JSON, what the SavedModel gives: of each image its
        `probabilities` as lists (H, W, K), background and outlines among them where these were
        learned (`planes` of `metadata.json`); `maps`, (H, W, T), of a network with such; and with
        `encoded` its `sizes`, height and width in pixels.

    Raises:
        Refusal: 400 for what is no such request, 413 where it is too large, 415 and 422 for files
            and images that the network cannot take.
    """
    request = _parse(body)
    signature = request.get("signature_name") or "serving_default"
    if not isinstance(signature, str) or signature not in SIGNATURES:
        raise Refusal(400, f"signature_name={signature!r}: there are {', '.join(SIGNATURES)}")
    by_row = "instances" in request
    names = SIGNATURES[signature]
    inputs = _rows(request["instances"], names) if by_row else _named(request["inputs"], names)
    if not isinstance(inputs[names[0]], list) or not inputs[names[0]]:
        raise Refusal(400, f"{names[0]} must be a list of one image or more")
    if len(inputs[names[0]]) > limits.images:
        raise too_many_images(limits)
    pixels = min(limits.pixels, JSON_PIXELS)
    if signature == "encoded":
        images = _decode(inputs["encoded"], pixels)
    else:
        images = _arrays(inputs["images"], predictor.channels, pixels)
    tile = _tile(inputs["tile"]) if "tile" in names else None
    try:
        outputs = _predict(images, predictor, tile)
    except InputError as error:
        raise Refusal(422, str(error)) from None
    if signature != "encoded":
        outputs.pop("sizes")
    if not by_row:
        return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    rows = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def _parse(body: bytes) -> dict[str, Any]:
    """Read the request's JSON."""
    try:
        request = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Refusal(400, f"the body is no JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(request, dict):
        raise Refusal(400, f"the body must be a JSON object, not {type(request).__name__}")
    unknown = set(request) - {"signature_name", "instances", "inputs"}
    if unknown:
        raise Refusal(
            400, f"there is no key {sorted(unknown)[0]!r}; give instances or inputs, signature_name"
        )
    if ("instances" in request) == ("inputs" in request):
        came = "both" if "inputs" in request else "neither"
        raise Refusal(400, f"give one of instances and inputs, not {came}")
    return request


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _rows(instances: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Bring rows, each an object of inputs or the only input by itself, into columns."""
    if not isinstance(instances, list):
        raise Refusal(400, f"instances must be a list, not {type(instances).__name__}")
    if len(names) > 1:
        raise Refusal(400, f"{' and '.join(names)} have no rows in common: give inputs instead")
    name = names[0]
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in instances]
    if any(named):
        wrong = [row for row in instances if not isinstance(row, dict) or set(row) != {name}]
        if wrong:
            raise Refusal(400, f"each of the instances must be an object with {name} alone")
        instances = [row[name] for row in instances]
    return {name: instances}


def _named(inputs: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Bring inputs, or the only one by itself, under their names."""
    if not isinstance(inputs, dict):
        inputs = {names[0]: inputs}
    if set(inputs) != set(names):
        raise Refusal(400, f"inputs must hold {' and '.join(names)}, not {sorted(inputs)}"[:300])
    return inputs


def _tile(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refusal(400, f"tile must be a whole number of at least 1 pixel, not {value!r}"[:200])
    return value


def _arrays(images: list[Any], channels: int, pixels: int) -> list[np.ndarray]:
    """Turn nested lists into images (H, W, C)."""
    try:
        array = np.array(images)
    except (ValueError, OverflowError):
        array = np.array(None)
    if array.dtype.kind not in "iuf" or array.ndim != 4 or array.size == 0:
        got = f"shape {array.shape}" if array.dtype.kind in "iuf" else "something else"
        raise Refusal(
            400, f"images must be numbers of shape (images, height, width, {channels}), not {got}"
        )
    if array[..., 0].size > pixels:
        raise _too_many_pixels(pixels)
    return list(array)


def _decode(files: list[Any], pixels: int) -> list[np.ndarray]:
    """Decode `{"b64": ...}` objects into images (H, W) or (H, W, C)."""
    images: list[np.ndarray] = []
    largest = (0, 0)
    for number, file in enumerate(files, 1):
        if not isinstance(file, dict) or set(file) != {"b64"} or not isinstance(file["b64"], str):
            raise Refusal(400, f'file {number} must be an object {{"b64": "..."}}')
        try:
            content = base64.b64decode(file["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(400, f"file {number} is no base64: {error}") from None
        image = decode(Upload(f"file {number}", content), pixels=pixels)
        images.append(image)
        # Results are padded to the largest height and width.
        largest = (max(largest[0], image.shape[0]), max(largest[1], image.shape[1]))
        if largest[0] * largest[1] * len(files) > pixels:
            raise _too_many_pixels(pixels)
    return images


def _too_many_pixels(pixels: int) -> Refusal:
    return Refusal(
        413,
        f"the images have more than {pixels} pixels, the most allowed in JSON: post them as files "
        "to /segment?output=probability",
    )


def _predict(images: list[np.ndarray], predictor: Predictor, tile: int | None) -> dict[str, Any]:
    """Predict images of one or several sizes; smaller results are padded with zeros."""
    fitted = [
        fit(image, channels=predictor.channels, dtype=predictor.image_dtype, name=f"image {number}")
        for number, image in enumerate(images, 1)
    ]
    predicted = [predictor.planes(image, tile=tile_for(image.shape, tile)) for image in fitted]
    sizes = np.array([maps.shape[:2] for maps in predicted])
    height, width = sizes.max(axis=0)
    padded = np.zeros((len(images), height, width, predicted[0].shape[-1]), np.float32)
    for target, maps in zip(padded, predicted, strict=True):
        target[: maps.shape[0], : maps.shape[1]] = maps
    classes = padded.shape[-1] - predictor.maps
    outputs = {"probabilities": padded[..., :classes].tolist(), "sizes": sizes.tolist()}
    return outputs | ({"maps": padded[..., classes:].tolist()} if predictor.maps else {})
