"""Against TensorFlow Addons, which Keras 3 keeps from being imported: its modules one by one."""

import importlib.util
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from unet_keras.pipeline import fields, geometry

PACKAGE = importlib.util.find_spec("tensorflow_addons")
pytestmark = pytest.mark.skipif(
    PACKAGE is None, reason="pip install --no-deps tensorflow-addons==0.23.0 (Python 3.11)"
)


class AnyType(types.ModuleType):
    """Stands for modules of type names."""

    def __getattr__(self, name: str) -> Any:
        return Any


@pytest.fixture
def load_addon(monkeypatch):
    """Load a module of tfa.image without running the package's own `__init__`."""
    for name in ("", ".image", ".utils"):
        stub = types.ModuleType(f"tensorflow_addons{name}")
        stub.__path__ = []
        monkeypatch.setitem(sys.modules, stub.__name__, stub)
    names = AnyType("tensorflow_addons.utils.types")
    monkeypatch.setitem(sys.modules, names.__name__, names)
    sys.modules["tensorflow_addons.utils"].types = names

    def load(name: str) -> types.ModuleType:
        path = Path(PACKAGE.submodule_search_locations[0]) / "image" / f"{name}.py"
        full = f"tensorflow_addons.image.{name}"
        spec = importlib.util.spec_from_file_location(full, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, module)
        setattr(sys.modules["tensorflow_addons.image"], name, module)
        spec.loader.exec_module(module)
        return module

    return load


def inside(coordinates: tf.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Where no border is involved: addons go on with the edge pixel, or twice with it."""
    coordinates = coordinates.numpy()
    return ((coordinates >= 0) & (coordinates <= np.array(size) - 1)).all(axis=-1)


def test_dense_image_warp(load_addon):
    size = (48, 60)
    images = np.random.default_rng(0).random((2, *size, 1), np.float32)
    grids = np.random.default_rng(1).normal(0, 5, (2, 3, 3, 2)).astype(np.float32)
    field = fields.dense_field(grids, size)
    expected = load_addon("dense_image_warp").dense_image_warp(images, -field).numpy()
    coordinates = geometry.identity_coordinates(size) + field
    checked = inside(coordinates, size)
    assert checked.mean() > 0.7
    warped = geometry.warp(images, coordinates).numpy()
    np.testing.assert_allclose(warped[checked], expected[checked], atol=2e-5)


@pytest.mark.parametrize("angle", [25.0, -140.0])
def test_rotate(load_addon, angle):
    load_addon("utils")
    size = (48, 60)
    images = np.random.default_rng(0).random((2, *size, 1), np.float32)
    expected = (
        load_addon("transform_ops")
        .rotate(images, math.radians(angle), interpolation="bilinear")
        .numpy()
    )
    center = [(side - 1) / 2 for side in size]
    matrix = geometry.rotation_matrix(angle)
    coordinates = geometry.affine_coordinates(size, matrix, center)
    checked = inside(coordinates, size)
    assert checked.mean() > 0.5
    warped = geometry.warp(images, coordinates).numpy()
    np.testing.assert_allclose(warped[:, checked], expected[:, checked], atol=5e-5)
