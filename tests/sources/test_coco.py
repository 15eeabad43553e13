"""COCO as it should be, as LIVECell is, and as it must not be."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.sources.coco_files import (
    L_SHAPE,
    SIZE,
    annotation,
    coco,
    code_of,
    image,
    load_only,
    masks,
    plain,
    square,
    write,
)
from unet_keras.sources.coco import coco_references, read_coco
from unet_keras.sources.coco_outlines import trace_outlines

LIVECELL = Path(os.environ.get("LIVECELL_SAMPLE", "../shared/data/livecell_sample"))


def test_an_asymmetric_polygon_keeps_its_axes(tmp_path, shape):
    (sample,), _ = load_only(tmp_path, plain())
    np.testing.assert_array_equal(masks(sample), [shape])
    assert sample.size == SIZE


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_keep_their_axes(compressed, tmp_path, shape):
    content = coco(
        [image(7, "A172_1.png")], [annotation(1, 7, code_of(shape, compressed=compressed))]
    )
    (sample,), _ = load_only(tmp_path, content)
    np.testing.assert_array_equal(masks(sample), [shape])


def test_positions_are_those_among_all_that_were_given():
    square, line = [1, 1, 5, 1, 5, 5, 1, 5], [1, 1, 5, 5]
    outside = [-9, -9, -5, -9, -5, -5]
    outlines, kept = trace_outlines([[line], [square], [outside], [square]], (8, 9), names="abcd")
    assert kept == [1, 3]
    assert outlines[0] == outlines[1]


def test_several_polygons_are_one_instance(tmp_path, shape):
    content = coco(
        [image(7, "A172_1.png")],
        [annotation(1, 7, L_SHAPE + square(20, 10)), annotation(2, 7, square(24, 1))],
    )
    (sample,), _ = load_only(tmp_path, content)
    first, second = masks(sample)
    shape[10:14, 20:24] = True
    np.testing.assert_array_equal(first, shape)
    assert second.sum() == 16


def test_every_way_to_write_an_instance_equals_pycocotools(tmp_path, rng):
    annotations = []
    for number in range(40):
        x, y = rng.uniform(0, SIZE[1], 8), rng.uniform(0, SIZE[0], 8)
        x[:2], y[2:4] = (0.0, SIZE[1]), (0.0, SIZE[0])  # to the very edge
        polygons = [np.stack([x, y], 1).ravel().round(2).tolist(), *square(number % 25, 3)]
        mask = rng.random(SIZE) < 0.3
        segmentation = [polygons, code_of(mask, compressed=True), code_of(mask, compressed=False)]
        annotations.append(annotation(number, 7, segmentation[number % 3]))
    images, json_folder = write(
        tmp_path, train=coco([image(7, "A172_1.png")], annotations), images=["A172_1.png"]
    )
    (reference,) = coco_references(images, json_folder)
    truth = COCO(json_folder / "livecell_coco_train.json")
    expected = [truth.annToMask(truth.anns[number]).astype(bool) for number in range(40)]
    np.testing.assert_array_equal(masks(reference.load()), expected)


def test_annotations_as_a_dict(tmp_path, shape):
    content = plain()
    content["annotations"] = {str(a["id"]): a for a in content["annotations"]}
    (sample,), _ = load_only(tmp_path, content)
    np.testing.assert_array_equal(masks(sample), [shape])


def test_order_of_keys_and_elements_does_not_matter(tmp_path):
    listed = [annotation(k, 7 + k % 2, square(k, 2 * (k % 2))) for k in range(10)]
    content = coco([image(7, "A_1.png"), image(8, "B_1.png")], listed)
    content["annotations"] = listed[::-1]
    turned = dict(reversed(content.items()))
    samples, _ = load_only(tmp_path, turned, ("A_1.png", "B_1.png"))
    assert [len(sample.outlines) for sample in samples] == [5, 5]
    assert [np.argwhere(mask)[0, 1] for mask in masks(samples[0])] == [8, 6, 4, 2, 0]
    assert [np.argwhere(mask)[0, 0] for mask in masks(samples[1])] == [2] * 5


def test_huge_ids_ids_that_are_texts_and_names_in_any_script(tmp_path):
    huge = 2**70
    content = coco(
        [image(huge, "A172_ß→細胞.png"), image("x-ß", 'B_"quoted".png')],
        [annotation(1, huge, L_SHAPE), annotation(2, "x-ß", L_SHAPE, category_id="細")],
    )
    names = ("A172_ß→細胞.png", 'B_"quoted".png')
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False, indent=3)):
        samples, _ = load_only(tmp_path, text, names)
        assert [sample.image_id for sample in samples] == [str(huge), "x-ß"]
        assert [sample.file_name for sample in samples] == list(names)
        assert [sample.classes.tolist() for sample in samples] == [[1], [2]]


def test_splits_and_groups(tmp_path):
    def one(image_id, name):
        return coco([image(image_id, name)], [annotation(1, image_id, L_SHAPE)])

    names = ["A172_1.png", "BV2_1.png", "oddname.png"]
    folders = write(
        tmp_path,
        train=one(1, names[0]),
        val=one(2, names[1]),
        test=one(3, names[2]),
        images=names,
    )
    references = coco_references(*folders)
    assert [(r.split, r.group) for r in references] == [
        ("train", "A172"),
        ("val", "BV2"),
        ("test", "all"),
    ]
    other = coco_references(*folders, group_pattern=r"([a-z]+)\.png$")
    assert [reference.group for reference in other] == ["all", "all", "oddname"]


def test_equal_ids_of_different_splits_stay_apart(tmp_path):
    def one(name):
        return coco([image(1, name)], [annotation(1, 1, L_SHAPE)])

    folders = write(tmp_path, train=one("a.png"), test=one("b.png"), images=["a.png", "b.png"])
    references = coco_references(*folders)
    assert [reference.image_id for reference in references] == ["train-1", "test-1"]


def test_json_files_may_be_in_subfolders(tmp_path):
    folders = write(tmp_path, train=plain(), images=["A172_1.png"])
    (folders[1] / "LIVECell").mkdir()
    (folders[1] / "livecell_coco_train.json").rename(
        folders[1] / "LIVECell" / "livecell_coco_train.json"
    )
    assert len(coco_references(*folders)) == 1


def test_references_are_small_and_travel(tmp_path):
    listed = [annotation(k, 7, L_SHAPE) for k in range(300)]
    for k, one in enumerate(listed):
        one["segmentation"] = square(k % 25, 2 + k % 13)
    content = coco([image(7, "A172_1.png")], listed)
    (reference,) = coco_references(*write(tmp_path, train=content, images=["A172_1.png"]))
    travelled = pickle.dumps(reference)
    assert len(travelled) < 300 * 12 + 2000
    assert pickle.loads(travelled).load().outlines == reference.load().outlines


def test_several_categories_are_classes_by_rising_id(tmp_path):
    content = coco(
        [image(7, "A172_1.png")],
        [annotation(k, 7, square(5 * k, 3), category_id=c) for k, c in enumerate((90, 4, 17, 4))],
        categories=(90, 4, 17),
    )
    other = coco(
        [image(8, "A172_2.png")], [annotation(9, 8, L_SHAPE, category_id=50)], categories=(50,)
    )
    folders = write(tmp_path, train=content, test=other, images=["A172_1.png", "A172_2.png"])
    train, test = coco_references(*folders)
    assert train.load().classes.tolist() == [4, 1, 2, 1]
    assert test.load().classes.tolist() == [3]


def test_only_categories_with_instances_are_classes(tmp_path):
    listed = (1, 2, 3, "none")
    orphan, crowd = annotation(5, 99, L_SHAPE), annotation(6, 7, L_SHAPE, iscrowd=1)
    train = coco(
        [image(7, "A_1.png")], [annotation(1, 7, L_SHAPE, category_id=3), orphan, crowd], listed
    )
    test = coco([image(8, "A_2.png")], [annotation(1, 8, L_SHAPE, category_id=2)], listed)
    folders = write(tmp_path, train=train, test=test, images=["A_1.png", "A_2.png"])
    references, notes = read_coco(*folders)
    assert [one.load().classes.tolist() for one in references] == [[2], [1]]
    assert notes.unused_categories == ("1", "none")
    assert "2 category ids listed without an instance, no classes: 1, none" in notes.lines()


@pytest.mark.skipif(not LIVECELL.is_dir(), reason="the LIVECell sample is not here")
def test_real_images_equal_pycocotools():
    references, notes = read_coco(LIVECELL / "images", LIVECELL / "annotations")
    assert notes.images == {"train": 7, "val": 2, "test": 3}
    assert notes.instances == {"train": 1460, "val": 224, "test": 995}
    assert {reference.group for reference in references} == {
        "A172",
        "BT474",
        "Huh7",
        "MCF7",
        "SKOV3",
    }
    for reference in references[6:9]:
        truth = COCO(reference.json_path)
        sample = reference.load()
        expected = [truth.annToRLE(a)["counts"] for a in truth.imgToAnns[int(reference.image_id)]]
        assert list(sample.outlines) == expected
        assert sample.image.shape == (520, 704)
