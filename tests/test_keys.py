"""Every key of the config does something: two values of it give two results."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.effects import EFFECTS, make_sources
from tests.observers import NETWORK, QUICK, SMALL
from unet_keras.config import Config, load
from unet_keras.model.unet import build_unet


def leaves(section: Any = Config, prefix: str = "") -> list[str]:
    """Return the path of every key; phases count as one."""
    found = []
    for field in dataclasses.fields(section):
        inner = field.default_factory
        if dataclasses.is_dataclass(inner):
            found += leaves(inner, f"{prefix}{field.name}.")
        else:
            found.append(prefix + field.name)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("key", leaves())
def test_two_values_of_a_key_give_two_results(folder: Path, key: str) -> None:
    assert key in EFFECTS, f"{key} has no test of its effect"
    observe, first, second, needs = EFFECTS[key]
    if needs:
        make_sources(folder)
    if key == "train.start_from":
        build_unet(base_filters=4, depth=2, seed=5).save(folder / second)
    common = [
        *SMALL,
        *NETWORK,
        *QUICK,
        "train.phases=[{epochs: 1}]",
        "train.steps_per_epoch=1",
        *needs,
    ]
    results = []
    for number, value in enumerate((first, second)):
        apart = (
            []
            if key.startswith(("records.path", "train.run_dir"))
            else [f"records.path=records/{number}", f"train.run_dir=runs/{number}"]
        )
        results.append(observe(load(overrides=[*common, *apart, f"{key}={value}"])))
        repeated = observe(load(overrides=[*common, *apart, f"{key}={value}"]))
        assert repeated == results[-1], "the effect is not repeatable, so it proves nothing"
    assert results[0] != results[1]
