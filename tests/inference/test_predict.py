"""The predict command's files, read back with the libraries that their users read them with."""

import csv
import json

import numpy as np
import pytest
import roifile
import tensorflow as tf
import tifffile
from PIL import Image
from pycocotools.coco import COCO
from skimage.draw import polygon2mask
from skimage.measure import regionprops
from skimage.transform import resize

from tests.inference.random_cells import random_cells, separate
from unet_keras import predict
from unet_keras.inference import averaging, scaling
from unet_keras.inference.instances import InstanceRules, label_instances
from unet_keras.sources.channels import fit_channels
from unet_keras.web import uploads

NAMES = (
    "A172_Phase_C7_1_00d00h00m_1",
    "A172_Phase_C7_1_02d12h30m_1",
    "A172_Phase_C10_1_00d01h00m_1",
)


def picture(seed, *, size=(128, 160), count=40):
    """Cells of 200 on 50, with a slope that tells mean intensities apart, and their labels."""
    labels = random_cells(seed, size=size, count=count)
    slope = np.linspace(0, 40, size[1]).astype(np.uint8)
    return np.where(separate(labels) > 0, np.uint8(200), np.uint8(50)) + slope, labels


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed, name in enumerate(NAMES):
        Image.fromarray(picture(seed)[0]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def everything(images, bright_file, tmp_path_factory):
    """The folder in which the command has written all that it can."""
    output = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        arguments = [bright_file, images, "--output", output, "--write", "all"]
        patch.setattr("sys.argv", ["predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            predict.main()
    assert not stop.value.code
    return output


def test_maps_agree_with_the_library(everything, images):
    for name in NAMES:
        labels = tifffile.imread(everything / f"{name}_labels.tif")
        probability = tifffile.imread(everything / f"{name}_probability.tif")
        assert (labels.dtype, probability.dtype) == (np.uint16, np.float32)
        np.testing.assert_array_equal(labels, label_instances(probability, minimum_area=10))
        mask = np.asarray(Image.open(everything / f"{name}_mask.png"))
        np.testing.assert_array_equal(mask, 255 * (labels > 0))
        assert np.asarray(Image.open(everything / f"{name}_overlay.png")).shape == (128, 160, 3)
        image = np.asarray(Image.open(images / f"{name}.png"))
        np.testing.assert_array_equal(probability > 0.5, image > 127)


def test_coco_is_read_by_pycocotools_with_the_same_cells(everything):
    coco = COCO(everything / "predictions.json")
    named = [image["file_name"] for image in coco.loadImgs(coco.getImgIds())]
    assert named == [f"{name}.png" for name in NAMES]
    for image in coco.loadImgs(coco.getImgIds()):
        labels = tifffile.imread(everything / image["file_name"].replace(".png", "_labels.tif"))
        again = np.zeros_like(labels)
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        for number, annotation in enumerate(annotations, 1):
            mask = coco.annToMask(annotation)
            again[mask > 0] = number
            assert annotation["area"] == mask.sum()
            ys, xs = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (xs.min(), ys.min())
            assert (width, height) == (np.ptp(xs) + 1, np.ptp(ys) + 1)
            assert 0.5 < annotation["score"] <= 1
        np.testing.assert_array_equal(again, labels)


def test_imagej_outlines_hold_exactly_their_cells(everything):
    labels = tifffile.imread(everything / f"{NAMES[0]}_labels.tif")
    again = np.zeros_like(labels)
    for roi in roifile.roiread(everything / f"{NAMES[0]}_rois.zip"):
        # ImageJ counts from the corner of the first pixel, polygon2mask from its center.
        points = roi.coordinates()[:, ::-1] - 0.5
        again[polygon2mask(labels.shape, points)] = int(roi.name)
    np.testing.assert_array_equal(again, labels)


def test_the_table_of_cells_is_that_of_regionprops(everything, images):
    cells = rows(everything / "cells.csv")
    for name in NAMES:
        image = np.asarray(Image.open(images / f"{name}.png"))
        own = [row for row in cells if row["image"] == f"{name}.png"]
        regions = regionprops(tifffile.imread(everything / f"{name}_labels.tif"), image)
        assert len(own) == len(regions)
        for row, region in zip(own, regions, strict=True):
            assert row["group"] == "A172"
            expected = {
                "label": region.label,
                "area": region.area,
                "perimeter": region.perimeter,
                "centroid_y": region.centroid[0],
                "centroid_x": region.centroid[1],
                "eccentricity": region.eccentricity,
                "mean_intensity": region.intensity_mean,
            }
            for column, value in expected.items():
                assert float(row[column]) == pytest.approx(value, rel=1e-6, abs=1e-6), column


def test_counts_and_growth(everything):
    counts = {row["image"]: row for row in rows(everything / "counts.csv")}
    labels = {name: tifffile.imread(everything / f"{name}_labels.tif") for name in NAMES}
    for name in NAMES:
        row = counts[f"{name}.png"]
        assert int(row["cells"]) == labels[name].max()
        assert float(row["confluency"]) == pytest.approx((labels[name] > 0).mean(), rel=1e-6)
        assert row["outside_training"] == "unknown"
    growth = rows(everything / "growth.csv")
    assert [(row["well"], float(row["hours"])) for row in growth] == [
        ("C7", 0), ("C7", 60.5), ("C10", 1)
    ]  # fmt: skip
    assert [int(row["cells"]) for row in growth] == [labels[name].max() for name in NAMES]
    assert np.asarray(Image.open(everything / "growth.png")).shape[1] > 500


def test_nothing_unfinished_stays(everything):
    assert [path.name for path in everything.glob(".*")] == [".sources.json"]
    kinds = {path.name.removeprefix(NAMES[0]) for path in everything.glob(f"{NAMES[0]}*")}
    assert kinds == {"_probability.tif", "_mask.png", "_labels.tif", "_overlay.png", "_rois.zip"}


def test_every_kind_of_image_and_one_bad_one(run, bright_file, tmp_path):
    image, _ = picture(5)
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(np.stack([image] * 3, axis=-1)).save(source / "rgb.png")
    Image.fromarray(image).save(source / "photo.jpg", quality=95)
    tifffile.imwrite(source / "wide.tif", image.astype(np.uint16))
    stack = np.stack([image, image[::-1], image[:, ::-1]])
    tifffile.imwrite(source / "stack.tif", stack, photometric="minisblack")
    (source / "broken.tif").write_bytes(b"II*\0no")
    (source / "cut.png").write_bytes((source / "rgb.png").read_bytes()[:300])
    output = tmp_path / "out"
    status, text = run(bright_file, source, "--output", output, "--write", "mask,csv")
    assert status == 1
    assert "broken.tif" in text
    assert "cut.png" in text
    assert text.count("skipped") == 2
    assert "Traceback" not in text
    expected = np.asarray(Image.open(output / "wide_mask.png")) > 0
    for name, turned in (("rgb", expected), ("stack-0", expected), ("stack-1", expected[::-1])):
        mask = np.asarray(Image.open(output / f"{name}_mask.png"))
        # A gap's pixel as near to both cells goes to the one that comes first.
        assert ((mask > 0) == turned).mean() > 0.999
    jpeg = np.asarray(Image.open(output / "photo_mask.png")) > 0
    assert (jpeg == expected).mean() > 0.98
    assert [row["image"] for row in rows(output / "counts.csv")] == [
        "photo.jpg", "rgb.png", *(f"stack.tif page {page}" for page in range(3)), "wide.tif"
    ]  # fmt: skip
    written = [path for path in output.iterdir() if not path.name.startswith(".")]
    assert sorted(path.suffix for path in written) == [".csv"] * 2 + [".json"] + [".png"] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--write", "mask,soup"], "--write mask,soup may name each of probability, mask"),
        (["--write", "all,overlays"], "--write all,overlays may name each of probability, mask"),
        (["--threshold", "1.5"], "--threshold 1.5 must be between 0 and 1\n"),
        (["--minimum-area=-1"], "error: --minimum-area -1 must be at least 0"),
        (["--tile=3000000000"], "error: --tile 3000000000 must be below 2^31"),
        (["--pixel-size", "0.5"], "does not say at what pixel size it was trained"),
        (["--halo=-3", "--tile", "16"], "--halo -3 must be at least 0"),
        (["--blend=-9"], "--blend -9 must be at least 0"),
    ],
)
def test_mistakes_end_in_one_line(run, bright_file, images, tmp_path, arguments, message):
    output = tmp_path / "out"
    status, text = run(bright_file, images / f"{NAMES[0]}.png", "--output", output, *arguments)
    assert status == 2
    assert message in text
    assert "Traceback" not in text
    assert not output.exists()


def test_a_threshold_and_an_area_given_replace_the_models(run, bright_file, images, tmp_path):
    image = images / f"{NAMES[0]}.png"
    counts = []
    for extra in ([], ["--minimum-area", 150], ["--threshold", 0.999999]):
        assert run(bright_file, image, "--output", tmp_path, "--write", "csv", *extra)[0] == 0
        counts.append(rows(tmp_path / "counts.csv")[0])
    assert int(counts[1]["cells"]) < int(counts[0]["cells"])
    assert float(counts[2]["confluency"]) < float(counts[0]["confluency"])


def test_pixel_size_finds_the_same_cells_at_another_scale(bright):
    image, _ = picture(3, count=20)
    doubled = resize(image, (256, 320), order=0, preserve_range=True).astype(np.uint8)
    sizes = []

    def predict_at_training_scale(given):
        sizes.append(given.shape)
        return (given / 255.0).astype(np.float32)

    predict_any = scaling.at_scale(predict_at_training_scale, 0.5)
    probability = predict_any(doubled[..., None])
    assert sizes == [(128, 160, 1)]
    assert probability.shape == (256, 320, 1)
    rules = InstanceRules(minimum_area=30)
    small = rules.label(image / 255.0)
    large = rules.at_scale(0.5).label(probability)
    assert rules.at_scale(0.5).minimum_area == 120
    # Gaps of two pixels do not all survive being halved and doubled.
    assert 0.85 * small.max() <= large.max() <= small.max()
    assert ((large > 0)[::2, ::2] == (small > 0)).mean() > 0.95


def test_flips_average_what_the_eight_symmetries_give(rng):
    weights = rng.random((9, 9))
    image = rng.random((7, 9))
    top_left = lambda given: (given * weights[: given.shape[0], : given.shape[1]])[..., None]  # noqa: E731
    averaged = averaging.over_flips(top_left)
    result = averaged(image)
    expected = np.mean(
        [
            np.rot90(top_left(np.rot90(view, k))[..., 0], -k)[:, :: (-1) ** flip]
            for flip, view in enumerate((image, image[:, ::-1]))
            for k in range(4)
        ],
        axis=0,
    )
    np.testing.assert_allclose(result[..., 0], expected, atol=1e-6)
    # What is the same from all sides comes out the same from all sides.
    turned = averaged(np.rot90(image))
    np.testing.assert_allclose(np.rot90(result), turned, atol=1e-6)


def test_an_ensemble_is_the_mean(run, bright, bright_file, images, tmp_path):
    bright.get_layer("logits").bias.assign([-32.0])
    bright.save(tmp_path / "darker.keras")
    bright.get_layer("logits").bias.assign([-20.0])
    image = images / f"{NAMES[0]}.png"
    maps = []
    for name, models in (
        ("one", [bright_file]),
        ("two", [tmp_path / "darker.keras"]),
        ("both", [bright_file, "--ensemble", tmp_path / "darker.keras", "--tta"]),
    ):
        first, *rest = models
        output = tmp_path / name
        assert run(first, image, *rest, "--output", output, "--write", "probability")[0] == 0
        maps.append(tifffile.imread(output / f"{NAMES[0]}_probability.tif"))
    # The network looks at single pixels, so turning changes nothing.
    np.testing.assert_allclose(maps[2], (maps[0] + maps[1]) / 2, atol=1e-6)
    assert np.abs(maps[0] - maps[1]).max() > 0.1


def test_a_run_knows_what_lies_outside_its_training(run, bright, images, tmp_path, records):
    folder = tmp_path / "run"
    folder.mkdir()
    bright.save(folder / "model.keras")
    manifest = json.loads((records / "manifest.json").read_text())
    manifest["ranges"] = {"grey_mean": [90, 130], "grey_deviation": [60, 80], "cell_area": [1, 9]}
    manifest["configuration"]["pixel_size"] = 2.0
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text("evaluate: {threshold: 0.4, minimum_area: 20}\n")
    (folder / "tuned.yaml").write_text("evaluate: {threshold: 0.6, minimum_area: 12}\n")
    image = images / f"{NAMES[0]}.png"
    arguments = ("--output", tmp_path / "out", "--write", "csv,labels,probability")
    assert run(folder, image, *arguments)[0] == 0
    row = rows(tmp_path / "out/counts.csv")[0]
    assert row["outside_training"] == "cell_area"
    probability = tifffile.imread(tmp_path / f"out/{NAMES[0]}_probability.tif")
    expected = label_instances(probability, threshold=0.6, minimum_area=12)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / f"out/{NAMES[0]}_labels.tif"), expected
    )
    # At half the pixel size cells are a quarter as large for the training's eye.
    assert run(folder, image, *arguments, "--pixel-size", 1)[0] == 0
    cells = rows(tmp_path / "out/cells.csv")
    assert all(float(row["area_um2"]) == float(row["area"]) for row in cells)
    assert min(float(row["area"]) for row in cells) >= 48, "12 pixels of the training's"
    assert run(folder, image, *arguments, "--pixel-size", 1, "--minimum-area", 200)[0] == 0
    areas = [float(row["area"]) for row in rows(tmp_path / "out/cells.csv")]
    assert 200 <= min(areas) < 800, "what is given is in pixels of the image"
    assert len(areas) < len(cells)
    status, text = run(folder, image, *arguments, "--pixel-size", 500)
    assert status == 2
    assert "far from the training's 2 micrometres" in text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colors_become_the_grey_of_a_served_model(rng, dtype):
    colors = rng.integers(0, np.iinfo(dtype).max, (20, 30, 3)).astype(dtype)
    grey = fit_channels(colors, 1)
    assert grey.dtype == dtype
    served = tf.io.decode_png(tf.io.encode_png(colors), 1, dtype).numpy()
    assert np.abs(grey.astype(int) - served).max() <= 1 + np.iinfo(dtype).max / 2**14
    np.testing.assert_array_equal(uploads.fit(colors, channels=1, dtype=None, name=""), grey)


def test_ranges_are_widened_by_what_few_images_leave_out():
    from unet_keras.inference.cells import outside_ranges

    ranges = {"grey_mean": (100.0, 120.0)}
    for images, low, high in ((2, 80, 140), (11, 98, 122), (3, 90, 130)):
        for value, outside in ((low - 0.1, True), (low, False), (high, False), (high + 0.1, True)):
            assert bool(outside_ranges({"grey_mean": value}, ranges, images)) is outside
    assert outside_ranges({"grey_mean": 1e6}, ranges, 1) == []
    # Means of images that are alike to the eye: nothing against what each deviates within itself.
    alike = {"grey_mean": (127.9, 128.1), "grey_deviation": (3.0, 17.0)}
    assert outside_ranges({"grey_mean": 130.5}, alike, 100) == []
    assert outside_ranges({"grey_mean": 132.0}, alike, 100) == ["grey_mean"]


def test_classes_that_a_distance_map_joins_are_not_told_apart(
    run, make_model, images, tmp_path, records
):
    """Outlines and distances become a map of cells, in which classes are one."""
    folder = tmp_path / "run"
    folder.mkdir()
    make_model(num_classes=3, regression_maps=1).save(folder / "model.keras")
    manifest = json.loads((records / "manifest.json").read_text())
    manifest |= {"num_classes": 2, "class_frequencies": [0.8, 0.1, 0.1]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    learned = "loss: {distance: 1}\nrecords: {maps: [border, distance]}\n"
    (folder / "config.yaml").write_text(learned)
    arguments = (images / f"{NAMES[0]}.png", "--output", tmp_path / "out", "--write", "all")
    status, text = run(folder, *arguments)
    assert status == 0, text
    assert "class" not in (tmp_path / "out/cells.csv").read_text().splitlines()[0].split(",")
