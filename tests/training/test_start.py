"""Training that starts from a network trained before."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tests.training.runs import differing, outcome, small_config
from tests.training.test_resume import train_until
from unet_keras.errors import InputError
from unet_keras.model.unet import build_unet
from unet_keras.records.manifest import read_manifest
from unet_keras.training import fit
from unet_keras.training.data import warn_of_cache
from unet_keras.training.start import read_weights, take_weights

# Steps so small that the weights stay what they were at the start.
STILL = (
    "train.phases=[{steps: 1, learning_rate: 1e-12}]", "train.steps_per_epoch=1",
    "model.normalization=none", "model.dropout=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.keras` file of other weights, and of another mean and scale of the grey values."""
    path = tmp_path_factory.mktemp("trained") / "trained.keras"
    options = {"base_filters": 4, "depth": 1, "normalization": "none", "mean": 7.0, "scale": 3.0}
    build_unet(**options, seed=5).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("average", [0, 0.9])
@pytest.mark.usefixtures("fast_data")
def test_a_run_starts_from_the_weights_and_keeps_its_own_grey_values(
    trained: Path,
    records: Path,
    tmp_path: Path,
    average: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    run = fit.train(
        small_config(
            records,
            tmp_path / "run",
            *STILL,
            f"train.start_from={trained}",
            f"train.optimizer.average={average}",
        )
    )
    assert caplog.messages.count(f"starts from {trained}") == 1
    model = keras.saving.load_model(run / "model.keras")
    for name, arrays in read_weights(trained).items():
        for found, expected in zip(model.get_layer(name).get_weights(), arrays, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-8)
    normalize = model.get_layer("normalize")
    assert float(np.ravel(normalize.mean)[0]) == pytest.approx(read_manifest(records).mean)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_data")
def test_a_run_folder_is_a_start_that_is_not_needed_any_more_when_resumed(
    records: Path, tmp_path: Path
) -> None:
    before = fit.train(small_config(records, tmp_path / "before", "seed=3"))
    places = [f"train.start_from={before}"]
    whole = outcome(fit.train(small_config(records, tmp_path / "whole", *places)))
    config = small_config(records, tmp_path / "killed", *places)
    train_until(4, config)
    (before / "model.keras").rename(before / "moved.keras")
    assert differing(outcome(fit.train(config)), whole) == []
    plain = outcome(fit.train(small_config(records, tmp_path / "plain")))
    assert differing(plain, whole) != []


def test_outputs_of_other_classes_start_anew(trained: Path) -> None:
    model = build_unet(
        base_filters=4, depth=1, normalization="none", num_classes=3, regression_maps=1
    )
    before = model.get_layer("logits").get_weights()
    take_weights(model, read_weights(trained), trained)
    for now, then in zip(model.get_layer("logits").get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    taken = keras.saving.load_model(trained).get_layer("down_1_conv_1").get_weights()
    np.testing.assert_array_equal(model.get_layer("down_1_conv_1").get_weights()[0], taken[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_filters": 8, "depth": 1}, r"layer down_1_conv_1 has weights of \(3, 3, 1, 4\)"),
        ({"base_filters": 4, "depth": 2}, r"layer down_2_conv_1 has weights of none"),
        (
            {"base_filters": 4, "depth": 1, "input_channels": 3},
            r"takes 1-channel images, and these have 3 channels: convert them with source",
        ),
    ],
)
def test_another_network_is_refused_before_anything_changes(
    trained: Path, options: dict, message: str
) -> None:
    model = build_unet(**options, normalization="none")
    before = model.get_weights()
    with pytest.raises(InputError, match=message):
        take_weights(model, read_weights(trained), trained)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_deeper_network_is_refused(trained: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep.keras"
    build_unet(base_filters=4, depth=2, normalization="none").save(deep)
    model = keras.saving.load_model(trained)
    with pytest.raises(InputError, match=r"deep\.keras is another network"):
        take_weights(model, read_weights(deep), deep)


@pytest.mark.parametrize("content", [None, b"no model"])
def test_a_bad_start_leaves_no_run_folder(
    records: Path, tmp_path: Path, content: bytes | None
) -> None:
    start = tmp_path / "start.keras"
    if content:
        start.write_bytes(content)
    config = small_config(records, tmp_path / "run", f"train.start_from={start}")
    with pytest.raises(InputError, match=r"start\.keras"):
        fit.train(config)
    assert not (tmp_path / "run").exists()


def test_records_larger_than_memory_are_told(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(records, tmp_path / "run")
    warn_of_cache(config)
    assert not caplog.messages
    monkeypatch.setattr("unet_keras.training.data._memory_bytes", lambda: 10_000)
    warn_of_cache(config)
    assert "pipeline.cache=false reads them from disk" in caplog.text
    caplog.clear()
    warn_of_cache(small_config(records, tmp_path / "run", "pipeline.cache=false"))
    assert not caplog.messages
