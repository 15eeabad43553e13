"""What the network learns of instances, and how its classes are balanced."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import read_records
from unet_keras.pipeline.dataset import load_dataset
from unet_keras.pipeline.kinds import (
    Kind,
    balanced_weights,
    class_frequencies,
    class_names,
    num_outputs,
)
from unet_keras.records.manifest import read_manifest
from unet_keras.targets.labels import separate_touching

KINDS: tuple[Kind, ...] = ("cells", "boundary", "cells_and_borders")


def target_of(labels: np.ndarray, kind: Kind) -> np.ndarray:
    """Class indices of a label map, by scikit-image."""
    if kind == "cells":
        return (separate_touching(labels) > 0).astype(int)
    outline = find_boundaries(labels, connectivity=1, mode="inner").astype(int)
    return outline if kind == "boundary" else np.where(labels > 0, 1 + outline, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_class_index_is_that_of_the_labels(records: Path, kind: Kind) -> None:
    dataset = load_dataset(
        records, "val", crop=(160, 192), batch_size=2, kind=kind, border_weight=10
    )
    index, weight = next(iter(dataset))[1].numpy().transpose(3, 0, 1, 2)
    cells = next(
        iter(load_dataset(records, "val", crop=(160, 192), batch_size=2, border_weight=10))
    )[1].numpy()[..., 1]
    # Between cells the weights are large whatever the pixels there are called.
    np.testing.assert_array_equal(weight, cells)
    originals = read_records(records, read_manifest(records), "val")
    for one, record in zip(index, originals, strict=True):
        np.testing.assert_array_equal(one, target_of(record["labels"], kind))


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_weights_are_those_of_all_training_pixels(records: Path, kind: Kind) -> None:
    manifest = read_manifest(records)
    pixels = np.concatenate(
        [target_of(r["labels"], kind).ravel() for r in read_records(records, manifest, "train")]
    )
    counts = np.bincount(pixels)
    np.testing.assert_allclose(class_frequencies(manifest, kind), counts / pixels.size)
    expected = pixels.size / (len(counts) * counts)
    np.testing.assert_allclose(balanced_weights(manifest, kind), expected)
    assert len(class_names(manifest, kind)) == len(counts)
    assert num_outputs(manifest, kind) == (3 if len(counts) == 3 else 1)


def test_what_cannot_be_balanced_is_named(records: Path) -> None:
    manifest = read_manifest(records)
    empty = replace(manifest, class_frequencies=(1.0, 0.0))
    with pytest.raises(InputError, match="no pixel of class 1; give 2 numbers"):
        balanced_weights(empty)
    with pytest.raises(InputError, match=r"targets.kind=boundary .* make the records again"):
        balanced_weights(replace(manifest, outline_share=0.0), "boundary")
