"""Records as evaluation reads them: every image under a name of its own."""

import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_keras.config import load
from unet_keras.errors import InputError
from unet_keras.evaluation.scoring import manifest_with, read_records, score_split
from unet_keras.inference.instances import foreground_of
from unet_keras.inference.outlines import perfect_cells
from unet_keras.records.manifest import read_manifest, verify
from unet_keras.records.writer import write_records
from unet_keras.sources.folders import folder_references

TEST_ONLY = (0.0, 0.0, 1.0)


def masks(count):
    """Masks of two cells each, uint8 (count, 40, 50)."""
    stack = np.zeros((count, 40, 50), np.uint8)
    for number, mask in enumerate(stack):
        mask[3 : 12 + number, 5:20] = mask[20:35, 15:40] = 255
    return stack


def names_of(tmp_path, images, labels):
    references = folder_references(images, labels, kind="binary", fractions=TEST_ONLY)
    write_records(references, tmp_path / "records", maps=(), workers=1)
    records = read_records(tmp_path / "records", read_manifest(tmp_path / "records"), "test")
    return [record["file_name"] for record in records]


def test_pages_of_a_stack_have_a_name_each(tmp_path):
    grey = {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "volume.tif", masks(3) // 2, **grey)
    tifffile.imwrite(tmp_path / "labels.tif", masks(3), **grey)
    names = names_of(tmp_path, tmp_path / "volume.tif", tmp_path / "labels.tif")
    assert sorted(names) == ["volume-0", "volume-1", "volume-2"]


def test_equal_names_in_several_folders_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        for part, scale in (("images", 2), ("masks", 1)):
            path = tmp_path / part / folder
            path.mkdir(parents=True)
            Image.fromarray(masks(1)[0] // scale).save(path / "cell_1.png")
    names = names_of(tmp_path, tmp_path / "images", tmp_path / "masks")
    assert len(set(names)) == 2
    assert "cell_1.png" in names


def test_damaged_records_are_named_as_verify_does(records, tmp_path):
    shutil.copytree(records, tmp_path / "records")
    path = tmp_path / "records"
    manifest = read_manifest(path)
    shard = path / manifest.splits["train"].shards[0].file
    whole = shard.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    first = 16 + int.from_bytes(whole[:8], "little")  # where the first record ends
    for content in (bytes(flipped), whole[:-7], whole[:first], None):
        shard.unlink() if content is None else shard.write_bytes(content)
        with pytest.raises(InputError) as said:
            list(read_records(path, manifest, "train"))
        assert str(said.value).startswith(verify(path)[0])
        assert str(shard) in str(said.value)


def test_a_split_without_images_names_those_that_have_some(records):
    assert manifest_with(records, "val").splits["val"].images == 2
    manifest = read_manifest(records)
    record = next(read_records(records, manifest, "train"))
    assert record["file_name"].endswith(".tif")


def test_records_without_a_split_say_which_to_take(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.fromarray(masks(1)[0]).save(tmp_path / part / "cell_1.png")
    names_of(tmp_path, tmp_path / "images", tmp_path / "masks")
    with pytest.raises(InputError, match=r"no images in split 'val': give evaluate\.split=test"):
        manifest_with(tmp_path / "records", "val")


@pytest.mark.parametrize(
    ("kind", "distance"), [("cells", 0), ("cells", 1), ("cells_and_borders", 1), ("boundary", 0)]
)
def test_the_ceiling_is_that_of_what_is_learned(records, kind, distance):
    config = load(
        overrides=[
            f"records.path={records}", f"targets.kind={kind}", f"loss.distance={distance}",
            "records.maps=[border,distance]", "evaluate.method=watershed",
            "evaluate.seed_prominence=0.1", "evaluate.minimum_area=0", "evaluate.seed_smoothing=1",
        ]
    )  # fmt: skip
    nothing = lambda image: np.zeros((*image.shape[:2], 1), np.float32)  # noqa: E731
    overall = score_split(config, nothing).results()["overall"]
    assert overall["segmentation_accuracy"] == 0
    # Of boundaries alone, gaps that cells enclose are cells too.
    lowest = 0.4 if kind == "boundary" else 0.8
    assert lowest < overall["ceiling_foreground"] <= overall["ceiling_label_map"]


def test_cells_that_were_not_parted_do_not_grow_together(tmp_path):
    """Two cells, two pixels of background between: outlines part them, so nothing was taken off."""
    labels = np.zeros((40, 40), np.uint16)
    labels[5:30, 5:18], labels[5:30, 20:33] = 1, 2
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / part / "cells_1.png")
    pairs = folder_references(tmp_path / "images", tmp_path / "masks", kind="labels",
                              fractions=(0, 0, 1))  # fmt: skip
    write_records(pairs, tmp_path / "records", workers=1)
    scores = {}
    for kind in ("cells", "cells_and_borders"):
        config = load(
            overrides=[f"records.path={tmp_path / 'records'}", f"targets.kind={kind}",
                       "evaluate.method=watershed"]
        )  # fmt: skip
        said = perfect_cells(labels, kind)
        found = score_split(config, lambda image, said=said: said)
        scores[kind] = found.results()["overall"]["dice_of_instances"]
    assert scores["cells_and_borders"] == 1
    assert scores["cells"] < 1


def test_the_ceiling_follows_the_rules_in_use(tmp_path):
    """Cells a pixel apart grow together only where touching ones were parted for the network."""
    labels = np.zeros((34, 34), np.uint16)
    for number in range(16):
        y, x = 8 * (number // 4) + 1, 8 * (number % 4) + 1
        labels[y : y + 7, x : x + 7] = number + 1
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / part / "cells_1.png")
    pairs = folder_references(
        tmp_path / "images", tmp_path / "masks", kind="labels", fractions=TEST_ONLY
    )
    write_records(pairs, tmp_path / "records", workers=1, separate=False)
    config = load(
        overrides=[f"records.path={tmp_path / 'records'}", "targets.separate_touching=false"]
    )
    said = (labels > 0).astype(np.float32)[..., np.newaxis]
    overall = score_split(config, lambda image: said).results()["overall"]
    assert overall["segmentation_accuracy"] == overall["ceiling_foreground"] == 1


def test_foreground_is_what_is_not_background():
    probabilities = np.array([[[0.2, 0.5, 0.3]]])
    assert foreground_of(probabilities) == pytest.approx(0.8)
    assert foreground_of(probabilities[..., :1]) == pytest.approx(0.2)
