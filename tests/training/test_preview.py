"""The preview shows what training sees, not something like it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.runs import small_config
from unet_keras import config as configuration
from unet_keras.pipeline.augment import NO_AUGMENTATION, Augmentation
from unet_keras.pipeline.dataset import load_dataset
from unet_keras.records.manifest import read_manifest
from unet_keras.train import main
from unet_keras.training import data, planning
from unet_keras.training.preview import preview_picture, read_crops

pytestmark = pytest.mark.slow

CROP = (48, 64)
GIVEN = {"crop": CROP, "seed": 0, "border_weight": 5.0}
MOVED = Augmentation(jit_compile=False)
_PIXEL = np.zeros((1, 1, 3), np.uint8)


@pytest.fixture(scope="module")
def crops(records: Path) -> list:
    return list(read_crops(records, 3, augmentation=MOVED, **GIVEN))


def test_images_and_weights_are_those_of_the_batches(records: Path, crops: list) -> None:
    batch = next(iter(load_dataset(records, "train", augment=MOVED, batch_size=3, **GIVEN)))
    image, packed = (part.numpy() for part in batch)
    np.testing.assert_array_equal(np.stack([s.image for s in crops]), image)
    np.testing.assert_array_equal(np.stack([s.weight for s in crops]), packed[..., -1])
    # The foreground is what separation leaves of the labels, which move by the same map.
    labels = np.stack([s.labels for s in crops])
    assert (labels[packed[..., 0] > 0] > 0).all()
    assert (labels > 0).sum() < 1.5 * packed[..., 0].sum()


def test_coordinates_lead_back_to_the_plain_crop(records: Path, crops: list) -> None:
    plain = list(read_crops(records, 3, augmentation=NO_AUGMENTATION, **GIVEN))
    for moved, still in zip(crops, plain, strict=True):
        place = np.rint(moved.coordinates).astype(int)
        inside = ((place >= 0) & (place < CROP)).all(axis=-1)
        assert inside.mean() > 0.1
        expected = still.labels[tuple(place[inside].T)]
        assert (moved.labels[inside] == expected).mean() > 0.99
    appended = replace(MOVED, mode="append")
    for one, other in zip(
        crops, read_crops(records, 3, augmentation=appended, **GIVEN), strict=True
    ):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_row_a_sample_and_a_straight_grid_without_augmentation(records: Path) -> None:
    one, three = (
        preview_picture(records, count, augmentation=NO_AUGMENTATION, **GIVEN) for count in (1, 3)
    )
    assert one.shape[1] == three.shape[1] >= 4 * 64
    assert three.shape[0] > 2 * one.shape[0] >= 2 * 48
    np.testing.assert_array_equal(three[: one.shape[0]], one)
    image, grid = one[-48:, :64], one[-48:, 70:134]
    drawn = (image != grid).any(axis=-1)
    assert drawn[8].all()
    assert drawn[:, 8].all()
    assert not drawn[6, 6]


@pytest.mark.parametrize("kind", ["boundary", "cells_and_borders"])
def test_weights_are_those_of_the_kind_that_is_learned(
    records: Path, tmp_path: Path, kind: str
) -> None:
    settings = "loss.class_weights=balanced", "evaluate.method=watershed", "pipeline.crop=[96, 96]"
    config = small_config(records, tmp_path / "run", f"targets.kind={kind}", *settings)
    drawn: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "preview_picture", lambda *_, **given: drawn.update(given) or _PIXEL)
        data.draw_preview(config, 2)
    balanced = planning.class_weights(config, read_manifest(records))
    sample = next(read_crops(records, 1, **drawn))
    augment = drawn["augmentation"]
    batches = load_dataset(
        records, "train", augment=replace(augment, mode="replace"), kind=kind, batch_size=1,
        class_weights=balanced, crop=(96, 96), seed=0, border_weight=drawn["border_weight"],
    )  # fmt: skip
    expected = next(iter(batches))[1][0, ..., -1]
    assert set(np.float32(balanced)) <= set(np.unique(expected))
    np.testing.assert_array_equal(sample.weight, expected)


@pytest.mark.slow
def test_the_command_makes_a_picture_and_no_run(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "config.yaml"
    configuration.save(small_config(records, tmp_path / "run"), path)
    for count, status in (("2", 0), ("0", 2)):
        monkeypatch.setattr(sys, "argv", ["train", str(path), "--preview", count])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == status
    assert "--preview 0 must be at least 1" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["train", str(path), "--preview", "1", "--find-lr"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "not allowed with argument" in capsys.readouterr().err
    with Image.open(tmp_path / "run-preview.png") as picture:
        assert picture.size[0] > 4 * 32
    assert not (tmp_path / "run").exists()
