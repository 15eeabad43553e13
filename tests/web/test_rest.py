"""What TensorFlow Serving's format gives: what the SavedModel says, not what is made of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from unet_keras.inference.loading import Predictor
from unet_keras.web import rest
from unet_keras.web.limits import Limits


@pytest.mark.parametrize(("kind", "maps"), [("cells_and_borders", 0), ("cells", 1), ("cells", 0)])
def test_planes_are_those_of_the_network(rng, kind, maps):
    planes = rng.random((2, 3, 3)).astype(np.float32)
    known = {"learned": kind}
    predictor = Predictor(Path("any"), 1, None, known, lambda image, tile: planes, maps)
    body = json.dumps({"instances": np.zeros((1, 2, 3, 1)).tolist()}).encode()
    (found,) = rest.predict(body, predictor, Limits())["predictions"]
    if maps:
        np.testing.assert_array_equal(np.float32(found["maps"]), planes[..., 2:])
        found = found["probabilities"]
    np.testing.assert_array_equal(np.float32(found), planes[..., : 3 - maps])
