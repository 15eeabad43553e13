import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import small_config
from unet_keras.errors import InputError
from unet_keras.training import computation, data, fit

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_devices_learn_what_one_does_from_the_same_batches(
    records: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("mirrored.py")
    done = subprocess.run(
        [sys.executable, str(script), str(records), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for normalization in ("batch", "none"):
        one, two = found[f"{normalization} none"], found[f"{normalization} mirrored"]
        assert len(set(one["loss"])) == 5
        np.testing.assert_allclose(two["loss"], one["loss"], rtol=0, atol=1e-5)
        # Keras's layer keeps the biased moving variance, the fused kernel the unbiased one.
        np.testing.assert_allclose(two["val_loss"], one["val_loss"], atol=1e-3)
        np.testing.assert_allclose(two["val_dice"], one["val_dice"], atol=1e-3)
    assert "batch_size=3 cannot be split evenly over the 2 devices" in found["uneven"]
    assert not (tmp_path / "uneven").exists()


class _Three:
    num_replicas_in_sync = 3


def test_each_device_has_a_validation_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computation, "_mirrored", _Three)
    assert computation.make_strategy("mirrored", batch_size=6, validation_images=0)
    with pytest.raises(InputError, match="have 2 validation images for the 3 devices"):
        computation.make_strategy("mirrored", batch_size=6, validation_images=2)


def test_devices_get_as_many_validation_images(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = data.read_manifest(records)
    train = manifest.splits["train"]  # four images
    four = replace(manifest, splits={**manifest.splits, "val": train})
    monkeypatch.setattr(data, "read_manifest", lambda _: four)
    load = data.load_dataset
    monkeypatch.setattr(
        data, "load_dataset", lambda path, _, **given: load(path, "train", training=False, **given)
    )
    config = small_config(records, tmp_path / "run")
    stretch = fit.plan(config, 1)[0]
    sizes = {
        devices: [
            len(x) for x, _ in fit.validation_data(config, stretch, margin=0, devices=devices)
        ]
        for devices in (1, 2, 3)
    }
    assert sizes == {1: [1, 1, 1, 1], 2: [2, 2], 3: [3]}
