"""One run that nothing interrupted, for all tests that compare with it."""

from pathlib import Path

import keras
import pytest

from tests.training.runs import outcome, simple_data, small_config
from unet_keras.training import data, fit


@pytest.fixture
def fast_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on data that are there at once."""
    monkeypatch.setattr(data, "load_dataset", simple_data)


@pytest.fixture(scope="session")
def uninterrupted(records: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run on `fast_data` ends with that was left alone, by `runs.outcome`."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_dataset", simple_data)
        return outcome(fit.train(small_config(records, run)))


@pytest.fixture(scope="session")
def watched(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of three epochs with panels in the second and the last, and a profile."""
    config = small_config(
        records, tmp_path_factory.mktemp("watched") / "run",
        "train.panel_epochs=2", "train.profile_steps=1", "train.precision=mixed_float16",
        "train.phases=[{epochs: 3, augment: none, learning_rate: 1e-2}]",
    )  # fmt: skip
    try:
        return fit.train(config)
    finally:
        keras.config.set_dtype_policy("float32")
