"""Masks and label maps of other tools: found by name, understood, and refused in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_keras.errors import InputError
from unet_keras.evaluation.instances import segmentation_accuracy
from unet_keras.evaluation.masks import MaskFolder, folder_truth, read_labels, score_masks
from unet_keras.evaluation.summary import Evaluation

from .made_cases import made_case

PATTERN = r"^([^_]+)_"
# two instances that touch, and a third one
LABELS = np.array(
    [
        [1, 1, 2, 2, 0, 0],
        [1, 1, 2, 2, 0, 7],
        [0, 0, 0, 0, 0, 7],
    ],
    np.uint16,
)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    else:
        tifffile.imwrite(path, array)
    return path


def binary(labels):
    return np.where(labels > 0, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    "file", ["a.png", "a.tif", "a_labels.tif", "a_cp_masks.png", "a_mask.tiff", "deep/a.png"]
)
def test_a_file_is_found_by_its_images_name(tmp_path, file):
    write(tmp_path / file, LABELS)
    found = MaskFolder(tmp_path).labels("deep/a.tif", LABELS.shape)
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize("file", ["a.TIF", "a_mask.Png", "a_labels.ome.tif", "a.ome.tif"])
def test_capitals_and_results_of_large_images_are_found(tmp_path, file):
    masks, images = tmp_path / "masks", tmp_path / "images"
    write(masks / file.lower(), LABELS)
    (masks / file.lower()).rename(masks / file)
    folder = MaskFolder(masks, "labels")
    np.testing.assert_array_equal(folder.labels("a.tif", LABELS.shape), LABELS)
    assert folder.unasked() == []
    (truth,) = folder_truth(folder, group_pattern=PATTERN)
    np.testing.assert_array_equal(truth["labels"], LABELS)
    write(images / "a.png", LABELS)
    (images / "a.png").rename(images / "a.PNG")
    if file != "a.ome.tif":  # whose image would be called so too
        (truth,) = folder_truth(folder, images=images, group_pattern=PATTERN)
        np.testing.assert_array_equal(truth["image"], LABELS)


def test_names_that_are_no_text_are_refused(tmp_path):
    write(tmp_path / "a.png", LABELS)
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(InputError, match=r"caf.xe9\.png' is no text in UTF-8"):
        list(folder_truth(MaskFolder(tmp_path), group_pattern=PATTERN))


def test_label_maps_come_before_masks_and_dots_stay(tmp_path):
    write(tmp_path / "a.b_mask.png", binary(LABELS))
    write(tmp_path / "a.b_labels.tif", LABELS)
    write(tmp_path / "a_labels.tif", np.zeros_like(LABELS))
    folder = MaskFolder(tmp_path)
    np.testing.assert_array_equal(folder.labels("a.b", LABELS.shape), LABELS)
    np.testing.assert_array_equal(folder.labels("a.b.tif", LABELS.shape), LABELS)


def test_pages_of_stacks_are_found_as_predict_names_them(tmp_path):
    """It counts the pages of a stack of 30 as 00 to 29, as file managers sort them."""
    write(tmp_path / "volume-08_labels.tif", LABELS)
    folder = MaskFolder(tmp_path)
    np.testing.assert_array_equal(folder.labels("volume-8", LABELS.shape), LABELS)
    write(tmp_path / "volume-8_labels.tif", LABELS[::-1])
    np.testing.assert_array_equal(folder.labels("volume-8", LABELS.shape), LABELS[::-1])
    with pytest.raises(InputError, match=r"has nothing for the image volume-9"):
        folder.labels("volume-9", LABELS.shape)


def test_what_nobody_asks_for_is_known(tmp_path):
    for name in ("a_labels.tif", "a_mask.png", "a_probability.tif", "a_overlay.png", "b.png"):
        write(tmp_path / name, LABELS.astype(np.uint8))
    folder = MaskFolder(tmp_path)
    folder.labels("a.tif", LABELS.shape)
    assert folder.unasked() == [tmp_path / "b.png"]
    folder.labels("b.tif", LABELS.shape)
    assert folder.unasked() == []


def test_truth_and_prediction_may_each_carry_an_ending(tmp_path):
    write(tmp_path / "truth/deep/a_label.png", LABELS)
    write(tmp_path / "predicted/a_pred.tif", LABELS)
    write(tmp_path / "predicted/a_probability.tif", np.ones(LABELS.shape, np.float32))
    (truth,) = folder_truth(MaskFolder(tmp_path / "truth"), group_pattern=PATTERN)
    folder = MaskFolder(tmp_path / "predicted", probabilities=True)
    np.testing.assert_array_equal(folder.labels(truth["file_name"], LABELS.shape), LABELS)
    assert folder.probability(truth["file_name"], LABELS.shape) is not None
    # the same name comes first
    write(tmp_path / "predicted/a_label.png", LABELS[::-1])
    found = folder.labels(truth["file_name"], LABELS.shape)
    np.testing.assert_array_equal(found, LABELS[::-1])


def test_one_value_is_a_mask_and_several_are_a_label_map(tmp_path):
    mask = write(tmp_path / "mask.png", binary(LABELS))
    components = read_labels(mask)
    assert components.max() == 2  # those that touch are one
    np.testing.assert_array_equal(components > 0, LABELS > 0)
    labels = write(tmp_path / "labels.png", LABELS)
    np.testing.assert_array_equal(read_labels(labels), LABELS)
    assert read_labels(labels, kind="binary").max() == 2
    assert set(np.unique(read_labels(mask, kind="labels"))) == {0, 255}
    assert not read_labels(write(tmp_path / "none.png", binary(LABELS * 0))).any()


def test_values_in_many_pieces_are_asked_about(tmp_path):
    # two classes in dots: neither a mask nor numbers of instances
    dots = np.zeros((20, 20), np.uint8)
    dots[::4, ::4], dots[2::4, 2::4] = 1, 2
    path = write(tmp_path / "classes.png", dots)
    with pytest.raises(InputError, match=r"classes\.png has 2 values besides 0 in 50 pieces"):
        read_labels(path)
    assert read_labels(path, kind="binary").max() == 50


def test_a_photograph_is_no_label_map(tmp_path):
    grey = np.random.default_rng(0).integers(80, 120, (40, 50)).astype(np.uint8)
    path = write(tmp_path / "a.png", grey)
    with pytest.raises(
        InputError, match=r"a\.png is no mask or label map: its 40 values .* as in a"
    ):
        read_labels(path)
    assert read_labels(path, kind="labels").max() == 119
    numbered = np.arange(1, 101, dtype=np.uint16).reshape(10, 10).repeat(4, 0).repeat(4, 1)
    numbered[::5] = 0  # cuts every cell in two, some in three
    np.testing.assert_array_equal(read_labels(write(tmp_path / "b.png", numbered)), numbered)


def test_a_missing_file_another_size_and_damage_are_named_in_one_line(tmp_path):
    write(tmp_path / "small.png", LABELS[:2])
    write(tmp_path / "twice.png", LABELS)
    write(tmp_path / "twice.tif", LABELS)
    (tmp_path / "broken.png").write_bytes(b"no image")
    write(tmp_path / "rgb.png", np.random.default_rng(0).integers(0, 9, (3, 6, 3), np.uint8))
    folder = MaskFolder(tmp_path)
    for name, message in (
        ("absent.tif", r"has nothing for the image absent\.tif: neither absent\.png nor"),
        ("small.tif", r"small\.png has 2 x 6 pixels .*small\.tif 3 x 6"),
        ("twice.tif", r"twice\.png and .*twice\.tif are both of the image"),
        ("broken.tif", r"broken\.png cannot be read"),
        ("rgb.tif", r"rgb\.png has 3 channels"),
    ):
        with pytest.raises(InputError, match=message) as error:
            folder.labels(name, LABELS.shape)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="There is no folder"):
        MaskFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="must be one of auto"):
        MaskFolder(tmp_path, "masks")


def test_probabilities_beside_are_read_where_they_are_asked_for(tmp_path):
    probability = np.linspace(0, 1, LABELS.size, dtype=np.float32).reshape(LABELS.shape)
    write(tmp_path / "a_probability.tif", probability)
    assert MaskFolder(tmp_path).probability("a.tif", LABELS.shape) is None
    folder = MaskFolder(tmp_path, probabilities=True)
    np.testing.assert_array_equal(folder.probability("a.tif", LABELS.shape), probability)
    planes = np.stack([1 - probability, probability / 3, probability * 2 / 3])
    tifffile.imwrite(tmp_path / "c_probability.tif", planes, photometric="minisblack")
    np.testing.assert_allclose(folder.probability("c.tif", LABELS.shape), probability, atol=1e-7)
    with pytest.raises(InputError, match=r"has no b_probability\.tif: .*--write probability"):
        folder.probability("b.tif", LABELS.shape)
    with pytest.raises(InputError, match=r"a_probability\.tif has 3 x 6 pixels"):
        folder.probability("a.tif", (4, 6))


def test_truth_from_a_folder(tmp_path):
    write(tmp_path / "truth/round_1.tif", LABELS)
    write(tmp_path / "truth/deep/flat_2.png", binary(LABELS))
    image = np.arange(LABELS.size, dtype=np.uint8).reshape(LABELS.shape)
    write(tmp_path / "images/round_1.tif", image)
    write(tmp_path / "images/deep/flat_2.png", image)
    truths = list(folder_truth(MaskFolder(tmp_path / "truth"), group_pattern=PATTERN))
    assert [truth["file_name"] for truth in truths] == ["deep/flat_2.png", "round_1.tif"]
    assert [truth["group"] for truth in truths] == ["flat", "round"]
    assert {int(value) for truth in truths for value in np.unique(truth["image"])} == {128}
    assert [int(truth["labels"].max()) for truth in truths] == [2, 7]
    folder = MaskFolder(tmp_path / "truth")
    for truth in folder_truth(folder, images=tmp_path / "images", group_pattern=PATTERN):
        np.testing.assert_array_equal(truth["image"], image)
    (tmp_path / "images/round_1.tif").unlink()
    with pytest.raises(InputError, match=r"has no image for round_1\.tif"):
        list(folder_truth(folder, images=tmp_path / "images", group_pattern=PATTERN))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        list(folder_truth(MaskFolder(tmp_path / "empty"), group_pattern=PATTERN))


@pytest.mark.parametrize(
    "name", ["a-labels.tif", "a_gt.png", "a_segmentation.png", "mask_a.png", "a_mask.png", "a.png"]
)
def test_truth_has_the_names_that_training_takes(tmp_path, name):
    write(tmp_path / "truth" / name, LABELS)
    write(tmp_path / "predicted/a.tif", LABELS)
    (truth,) = folder_truth(MaskFolder(tmp_path / "truth"), group_pattern=PATTERN)
    found = MaskFolder(tmp_path / "predicted").labels(truth["file_name"], LABELS.shape)
    np.testing.assert_array_equal(found, LABELS)


def test_what_tools_write_beside_their_masks_is_no_truth(tmp_path, caplog):
    colors = np.zeros((*LABELS.shape, 3), np.uint8)
    write(tmp_path / "a_cp_masks.png", LABELS)
    for name in ("a_cp_outlines.png", "a_flows.tif", "a_overlay.png", "a_probability.tif"):
        write(tmp_path / name, colors)
    write(tmp_path / "b_1.png", LABELS)
    truths = list(folder_truth(MaskFolder(tmp_path), group_pattern=PATTERN))
    assert [truth["file_name"] for truth in truths] == ["a_cp_masks.png", "b_1.png"]
    assert "left out: 4 files beside the masks" in caplog.text


@pytest.mark.parametrize("other", ["a_mask.png", "a.png", "a-labels.png"])
def test_two_truths_of_one_image_are_refused(tmp_path, other):
    write(tmp_path / "a_labels.tif", LABELS)
    write(tmp_path / other, LABELS)
    with pytest.raises(InputError, match=r"are both of the image a; remove one"):
        list(folder_truth(MaskFolder(tmp_path), group_pattern=PATTERN))


def truth_of(case):
    return {
        "file_name": case["file_name"],
        "group": case["group"],
        "image": case["image"],
        "labels": case["truth_labels"],
        "outlines": case["outlines"],
    }


def test_masks_are_scored_like_any_prediction(tmp_path):
    cases = [made_case(seed, size=(40, 50), cells=6) for seed in range(3)]
    for case in cases:
        stem = Path(case["file_name"]).stem
        write(tmp_path / f"{stem}_labels.tif", case["predicted_labels"])
    seen = []
    evaluation = Evaluation()
    truths = [truth_of(case) for case in cases]
    score_masks(truths, MaskFolder(tmp_path), evaluation, progress=seen.append)
    rows = evaluation.results()["images"]
    assert seen == [1, 1, 1]
    for row, case in zip(rows, cases, strict=True):
        truth, predicted = case["truth_labels"], case["predicted_labels"]
        expected = segmentation_accuracy(case["outlines"], predicted)
        assert row["segmentation_accuracy"] == expected["segmentation_accuracy"]
        # all foreground counts, the pixels between touching instances too
        shared = np.count_nonzero((truth > 0) & (predicted > 0))
        assert row["dice"] == 2 * shared / (np.count_nonzero(truth) + np.count_nonzero(predicted))


def test_corrected_masks_count_and_not_the_probabilities_beside(tmp_path):
    case = made_case(1, size=(40, 50), cells=6)
    stem = Path(case["file_name"]).stem
    write(tmp_path / f"{stem}_labels.tif", np.zeros_like(case["predicted_labels"]))
    write(tmp_path / f"{stem}_probability.tif", case["probability"])
    evaluation = Evaluation()
    score_masks([truth_of(case)], MaskFolder(tmp_path), evaluation)
    assert evaluation.results()["overall"]["dice"] == 0


def test_probabilities_are_compared_with_what_the_network_learned(tmp_path):
    case = made_case(1, size=(40, 50), cells=6)
    stem = Path(case["file_name"]).stem
    write(tmp_path / f"{stem}_labels.tif", case["predicted_labels"])
    write(tmp_path / f"{stem}_probability.tif", case["probability"])
    evaluations = [Evaluation(), Evaluation()]
    folder = MaskFolder(tmp_path, probabilities=True)
    score_masks([truth_of(case)], folder, evaluations[0], separate=True)
    evaluations[1].add(**case)
    assert evaluations[0].results() == evaluations[1].results()


def test_with_membranes_touching_instances_are_apart(tmp_path):
    case = made_case(3, size=(60, 70), cells=14)
    labels = case["truth_labels"]
    write(tmp_path / f"{Path(case['file_name']).stem}.tif", labels)
    evaluation = Evaluation(membranes=True)
    score_masks([truth_of(case)], MaskFolder(tmp_path), evaluation)
    results = evaluation.results()
    assert results["overall"]["dice"] == 1.0
    assert results["membranes"]["at_threshold"]["warping_error_all"] == 0.0
    assert results["membranes"]["at_threshold"]["v_rand"] > 0.9
