import itertools
import math
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.records.examples import drawn
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import read_records
from unet_keras.pipeline.augment import Augmentation
from unet_keras.pipeline.dataset import load_dataset
from unet_keras.records.manifest import read_manifest
from unet_keras.records.writer import write_records
from unet_keras.targets.labels import separate_touching

pytestmark = pytest.mark.slow

AUGMENTATION = Augmentation(zoom=(0.9, 1.1), noise=0.1, jit_compile=False)
SHAPE = {"crop": (64, 80), "batch_size": 2}


def take(dataset: tf.data.Dataset, count: int) -> list[tuple[np.ndarray, ...]]:
    return [tuple(part.numpy() for part in batch) for batch in dataset.take(count)]


def assert_same(first: list[tuple[np.ndarray, ...]], second: list[tuple[np.ndarray, ...]]) -> None:
    assert len(first) == len(second) > 0
    for one, two in zip(first, second, strict=True):
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)


def test_batches_have_the_contracts_shapes_and_types(records: Path) -> None:
    dataset = load_dataset(
        records, "train", augment=AUGMENTATION, regression_maps=("distance",), **SHAPE
    )
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [
        [2, 64, 80, 1],
        [2, 64, 80, 3],
    ]
    image, packed = take(dataset, 1)[0]
    assert (image.dtype, packed.dtype) == (np.float32, np.float32)
    assert set(np.unique(packed[..., 0])) == {0.0, 1.0}
    assert 0 <= packed[..., 1].min() <= packed[..., 1].max() <= 1
    assert 1 <= packed[..., 2].min() < packed[..., 2].max() <= 11


def test_validation_gives_the_center_of_each_image_once_and_unchanged(records: Path) -> None:
    batches = take(load_dataset(records, "val", crop=(64, 80), batch_size=3), 10)
    assert [len(batch[0]) for batch in batches] == [2]
    originals = list(read_records(records, read_manifest(records), "val"))
    window = (slice(48, 112), slice(56, 136))
    for image, packed, record in zip(*batches[0], originals, strict=True):
        np.testing.assert_array_equal(image, record["image"][window])
        labels = record["labels"]
        expected = separate_touching(labels) > 0
        # At the crop's edge a neighbor outside cannot be seen.
        inner = (slice(1, -1), slice(1, -1))
        np.testing.assert_array_equal(packed[..., 0][inner] > 0, expected[window][inner])


@pytest.mark.parametrize("augment", [None, AUGMENTATION])
def test_a_late_start_gives_the_batches_of_an_early_one(
    records: Path, augment: Augmentation | None
) -> None:
    early = take(load_dataset(records, "train", augment=augment, seed=3, **SHAPE), 7)
    late = take(load_dataset(records, "train", augment=augment, seed=3, start_step=4, **SHAPE), 3)
    assert_same(early[4:], late)


def test_caching_changes_nothing(records: Path) -> None:
    batches = [
        take(load_dataset(records, "train", augment=AUGMENTATION, cache=cache, **SHAPE), 5)
        for cache in (True, False)
    ]
    assert_same(*batches)


def test_appended_copies_follow_the_originals_and_double_the_set(records: Path) -> None:
    def batches(mode: Literal["none", "replace", "append"], count: int, start: int = 0) -> list:
        augment = replace(AUGMENTATION, mode=mode)
        return take(
            load_dataset(records, "train", augment=augment, start_step=start, **SHAPE), count
        )

    doubled = batches("append", 8)
    assert_same(doubled[0::2], batches("none", 4))
    assert_same(doubled[1::2], batches("replace", 4))
    # An epoch that was stopped between an original and its copy goes on with the copy.
    assert_same(doubled[3:], batches("append", 5, start=3))


def test_images_are_decoded_once_and_then_come_from_memory(records: Path, tmp_path: Path) -> None:
    copy = tmp_path / "records"
    shutil.copytree(records, copy)
    batches = load_dataset(copy, "train", augment=AUGMENTATION, **SHAPE).as_numpy_iterator()
    next(batches)
    for shard in copy.glob("*.tfrecord"):
        shard.unlink()
    assert len(list(itertools.islice(batches, 20))) == 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="read from Linux' /proc")
def test_memory_stays_flat_over_fifty_epochs(records: Path) -> None:
    whole = {"crop": (160, 192), "batch_size": 2}
    batches = iter(load_dataset(records, "train", augment=AUGMENTATION, **whole))

    def megabytes_after(epochs: int) -> float:
        for _ in range(2 * epochs):
            next(batches)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    # A batch is 0.7 MB: keeping every one from the sixth epoch on would take 63.
    before = megabytes_after(5)
    assert megabytes_after(45) - before < 20


def test_seeds_differ_and_so_do_rounds(records: Path) -> None:
    first, second = (
        take(load_dataset(records, "train", augment=AUGMENTATION, seed=seed, **SHAPE), 4)
        for seed in (0, 1)
    )
    assert not np.array_equal(first[0][0], second[0][0])
    # Two batches of two are one round of the four images.
    assert not np.array_equal(first[0][0], first[2][0])


def test_every_image_comes_once_before_any_comes_twice(records: Path) -> None:
    whole = {"crop": (160, 192), "batch_size": 1}
    images = [batch[0].tobytes() for batch in take(load_dataset(records, "train", **whole), 12)]
    rounds = (
        list(itertools.batched(images, 4))
        if hasattr(itertools, "batched")
        else [images[start : start + 4] for start in (0, 4, 8)]
    )
    assert all(len(set(part)) == 4 for part in rounds)
    assert len({tuple(part) for part in rounds}) > 1, "each round has the same order"


def test_fit_sees_other_crops_in_the_second_epoch_and_the_same_in_a_second_run(
    records: Path,
) -> None:
    def run() -> list[float]:
        keras.utils.set_random_seed(0)
        seen: list[float] = []
        dataset = load_dataset(records, "train", augment=AUGMENTATION, weights="none", **SHAPE)
        model = keras.Sequential([keras.Input((64, 80, 1)), keras.layers.Conv2D(1, 1)])
        model.compile(loss="mse")

        def note(image: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            tf.py_function(lambda x: seen.append(float(tf.reduce_sum(x))), [image], [])
            return image, target

        model.fit(dataset.map(note), steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
        return seen[:4]

    first = run()
    assert len(set(first)) == 4
    assert first == run()


def test_stock_losses_get_class_and_weight_apart(records: Path) -> None:
    packed = take(load_dataset(records, "train", **SHAPE), 1)[0]
    image, index, weight = take(
        load_dataset(records, "train", weights="sample_weight", **SHAPE), 1
    )[0]
    np.testing.assert_array_equal(image, packed[0])
    np.testing.assert_array_equal(index[..., 0], packed[1][..., 0])
    np.testing.assert_array_equal(weight, packed[1][..., 1])
    assert len(take(load_dataset(records, "train", weights="none", **SHAPE), 1)[0]) == 2


def test_targets_lack_the_margin_and_come_from_anywhere_in_the_image(records: Path) -> None:
    """Though crops are larger than the images of 160 x 192 pixels, as 572 pixels are than 512."""
    known = list(read_records(records, read_manifest(records), "train"))
    margin, height, width, seen = 20, 140, 180, np.zeros((160, 192), bool)
    data = load_dataset(records, "train", margin=margin, crop=(180, 220), batch_size=2)
    for image, packed in take(data, 60):
        assert packed.shape[1:3] == (height, width)
        for one, index in zip(image[..., 0], packed[..., 0], strict=True):
            inner = one[margin:-margin, margin:-margin]
            places = [
                (record["labels"], slice(row, row + height), slice(column, column + width))
                for record in known
                for row in range(160 - height + 1)
                for column in range(192 - width + 1)
                if (record["image"][row : row + height, column : column + width, 0] == inner).all()
            ]
            assert len(places) == 1
            labels, *place = places[0]
            np.testing.assert_array_equal(index, separate_touching(labels)[tuple(place)] > 0)
            seen[tuple(place)] = True
    assert seen.any(axis=0).all()
    assert seen.any(axis=1).all()


def test_weights_follow_the_formula(records: Path) -> None:
    def weight(**arguments: object) -> np.ndarray:
        return take(load_dataset(records, "train", **SHAPE, **arguments), 1)[0][1][..., -1]

    index = take(load_dataset(records, "train", **SHAPE), 1)[0][1][..., 0]
    plain = weight(border_weight=0)
    border = weight(border_weight=10) - plain
    assert (plain == 1).all()
    assert (border[index > 0] == 0).all()
    assert 0 < border.max() <= 10
    balanced = weight(border_weight=0, class_weights=(0.5, 2.0))
    np.testing.assert_array_equal(balanced, np.where(index > 0, 2.0, 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"split": "holdout"},
            r"has no images in split 'holdout'; it has .'test', 'train', 'val'.",
        ),
        ({"margin": 40}, r"pipeline.crop=\(64, 80\) must be larger than 80"),
        ({"class_weights": (1.0,)}, r"loss.class_weights=\[1.0\] must have 2 numbers"),
        ({"weights": "packd"}, r"weights='packd' must be one of packed, sample_weight, none"),
        ({"kind": "borders"}, r"kind='borders' must be one of cells, boundary, cells_and_borders"),
        ({"kind": "cells_and_borders", "outline_pixels": 0}, "outline_pixels=0 must be at least 1"),
        ({"border_weight": -3.0}, r"border_weight=-3\.0 must be at least 0"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"start_step": -1}, "start_step=-1 must be at least 0"),
        ({"crop": 32}, "crop=32 must be height and width"),
        ({"crop": (32, 0)}, r"crop=\(32, 0\) must be height and width"),
        ({"border_weight": math.inf}, "border_weight=inf must be at least 0 and finite"),
        (
            {"class_weights": (-1.0, 2.0)},
            r"class_weights=\(-1.0, 2.0\) must be numbers of at least",
        ),
        ({"class_weights": (math.nan, 2.0)}, "must be numbers of at least 0, such as .2, 1.$"),
        ({"class_weights": "balanced"}, "=balanced must be numbers of at least 0, such as .2, 1.$"),
        ({"regression_maps": "distance"}, r"must be a list of names: \['distance'\]"),
        (
            {"regression_maps": ("distance",), "weights": "sample_weight"},
            "are carried by weights='packed' alone, and weights='sample_weight' was given",
        ),
        ({"regression_maps": ("border",)}, "has border, which weighs the loss"),
        ({"regression_maps": ("flow",)}, r"has the maps .*'border'.* but .*'flow'.* asked for"),
    ],
)
def test_mistakes_are_named(records: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(**{"path": records, "split": "train", **SHAPE, **arguments})


def test_sequences_may_be_of_any_kind(records: Path) -> None:
    made = [
        load_dataset(records, "val", crop=kind((64, 80)), batch_size=1, class_weights=kind((1, 2)))
        for kind in (list, tuple, np.array)
    ]
    for first, *others in zip(*(one.as_numpy_iterator() for one in made), strict=True):
        for other in others:
            np.testing.assert_array_equal(first[1], other[1])


def test_without_weights_no_border_map_is_needed(records: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    write_records(drawn({"train": 2, "val": 1}), plain, maps=(), workers=1)
    with pytest.raises(InputError, match=r"has the maps \[\], but \['border'\] are asked for"):
        load_dataset(plain, "train", crop=(16, 16), batch_size=1)
    arguments = {"crop": (16, 16), "batch_size": 1, "weights": "none"}
    image, index = take(load_dataset(plain, "train", **arguments), 1)[0]
    assert (image.shape, index.shape) == ((1, 16, 16, 1), (1, 16, 16, 1))


def test_a_truncated_shard_is_named_before_training_begins(records: Path, tmp_path: Path) -> None:
    copy = tmp_path / "records"
    shutil.copytree(records, copy)
    shard = next(copy.glob("train-*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{shard.name}.* is cut off"):
        load_dataset(copy, "train", **SHAPE)
