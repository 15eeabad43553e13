from collections.abc import Iterator

import keras
import pytest


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Set the policy a test is parametrized with, for that test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)
