"""Images in parts: the same result as whole, whatever was killed on the way."""

import csv
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from unet_keras.inference import blocks, large, strips
from unet_keras.inference.cells import measure_cells
from unet_keras.inference.instances import InstanceRules
from unet_keras.inference.outlines import as_cells
from unet_keras.inference.tiff import TiffRegions
from unet_keras.inference.tiling import predict_tiled

RULES = InstanceRules(minimum_area=20)
PARTS = {"block": 64, "margin": 40}


@pytest.fixture
def opened(picture, same, tmp_path):
    """A large image as the command opens it, with a network whose tiles depend on their halo."""
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, tile=(64, 48), compression="zlib")
    with TiffRegions(path) as image:
        yield large.LargeImage(
            image=image, name="slide", title="slide.tif", group="A", model=same, rules=RULES,
            kind="cells", identity={"model": "x"}, tile=48, pixel_size=0.5,
        )  # fmt: skip


def read_all(output):
    return {
        name: tifffile.imread(output / f"slide_{name}.ome.tif")
        for name in ("probability", "mask", "labels")
    }


def pairs(first, second):
    """How many labels correspond one to one; equal to both counts where maps differ in numbers."""
    both = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return both.shape[1] - int((both == 0).all(axis=0).any())


@pytest.mark.parametrize(
    ("method", "smoothing"), [("components", 0), ("watershed", 0), ("watershed", 2.5)]
)
def test_parts_give_what_the_whole_image_gives(
    opened, picture, bright, tmp_path, method, smoothing
):
    rules = replace(RULES, method=method, seed_smoothing=smoothing)
    what = replace(opened, rules=rules, model=bright)
    found, folder = large.segment_large(what, tmp_path, ["probability", "mask", "labels"], **PARTS)
    written = read_all(tmp_path)
    probability = predict_tiled(bright, picture)[..., 0]
    np.testing.assert_allclose(written["probability"], probability, atol=1e-5)
    whole = what.rules.label(probability)
    assert found == blocks.CellCounts(int(whole.max()), 0)
    assert whole.max() > 40
    assert pairs(written["labels"], whole) == whole.max()
    np.testing.assert_array_equal(written["labels"] > 0, whole > 0)
    np.testing.assert_array_equal(written["mask"], 255 * (whole > 0))
    measured = measure_cells(whole, picture)
    cells = list(large.read_cells(folder))
    assert [int(row["label"]) for row in cells] == list(range(1, whole.max() + 1))
    for column in ("area", "centroid_y", "centroid_x", "mean_intensity"):
        ours = sorted(float(row[column]) for row in cells)
        np.testing.assert_allclose(ours, sorted(measured[column]), rtol=1e-6)
    row = large.summarize(what, folder)
    assert row["cells"] == whole.max()
    assert row["confluency"] == pytest.approx((whole > 0).mean(), rel=1e-6)
    assert row["grey_deviation"] == pytest.approx(picture.std(), rel=1e-6)


def test_strips_of_a_network_with_context_equal_the_whole_image(opened, picture, same, tmp_path):
    strips.claim(tmp_path / "parts", {})
    strips.predict_strips(same, opened.image, tmp_path / "parts", tile=24)
    raw = np.fromfile(tmp_path / "parts" / strips.PROBABILITY, np.float32).reshape(picture.shape)
    np.testing.assert_allclose(raw, predict_tiled(same, picture)[..., 0], atol=1e-5)


def test_strips_read_outlines_and_distances_as_whole_images_do(
    opened, picture, make_model, tmp_path
):
    model = make_model(num_classes=3, regression_maps=1)
    strips.claim(tmp_path / "parts", {})
    kind = "cells_and_borders"
    strips.predict_strips(model, opened.image, tmp_path / "parts", tile=24, kind=kind)
    raw = np.fromfile(tmp_path / "parts" / strips.PROBABILITY, np.float32).reshape(picture.shape)
    cells = as_cells(predict_tiled(model, picture), kind, 1)[..., 0]
    # Where the probability of a cell is one half but for rounding, the height comes or goes.
    assert (np.abs(raw - cells) > 1e-4).mean() < 1e-3


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stage", ["predicting", "labeling"])
def test_a_killed_run_goes_on_and_gives_the_same(opened, tmp_path, monkeypatch, stage):
    everything = ["probability", "mask", "labels", "overlay"]
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    _, folder = large.segment_large(opened, tmp_path / "straight", everything, **PARTS)
    expected, table = read_all(tmp_path / "straight"), list(large.read_cells(folder))

    def kill(now, done, total):
        if now == stage and 0 < done < total:
            raise KilledError

    with pytest.raises(KilledError):
        large.segment_large(opened, tmp_path / "killed", everything, progress=kill, **PARTS)
    assert not list(tmp_path.glob("killed/slide*"))
    # What a kill in the middle of writing leaves behind.
    parts = tmp_path / "killed/.slide.unfinished"
    if stage == "predicting":
        with (parts / strips.PROBABILITY).open("ab") as file:
            file.write(b"torn strip")
    else:
        with (parts / blocks.CELLS).open("a") as file:
            file.write("slide.tif,A,99")
        labels = np.memmap(parts / blocks.LABELS, np.uint32, "r+", shape=opened.image.shape[:2])
        labels[60:90, 60:100][labels[60:90, 60:100] == 0] = 2**20
        labels.flush()
    seen = []
    _, folder = large.segment_large(
        opened, tmp_path / "killed", everything,
        progress=lambda now, done, total: seen.append((now, done)), **PARTS,
    )  # fmt: skip
    assert min(done for now, done in seen if now == stage) > 0
    result = read_all(tmp_path / "killed")
    for name, array in expected.items():
        np.testing.assert_array_equal(result[name], array)
    assert list(large.read_cells(folder)) == table


def test_another_model_begins_anew(opened, tmp_path):
    large.segment_large(opened, tmp_path, ["mask"], **PARTS)
    seen = []
    other = replace(opened, identity={"model": "y"})
    large.segment_large(
        other, tmp_path, ["mask"], progress=lambda now, done, total: seen.append(done), **PARTS
    )
    assert seen[0] == 0


def test_what_reaches_beyond_the_margin_is_counted(opened, bright, tmp_path, caplog):
    path = tmp_path / "line.tif"
    line = np.full((40, 300), 20, np.uint8)
    line[18:22, 5:290] = 220
    line[30:36, 100:110] = 220
    tifffile.imwrite(path, line, tile=(16, 16))
    with TiffRegions(path) as image:
        what = replace(opened, image=image, model=bright)
        found, _ = large.segment_large(
            what, tmp_path, ["labels", "rois", "coco"], block=64, margin=16
        )
    assert found.cut > 1
    assert found.cells == found.cut + 1
    assert "is cut there" in caplog.text
    assert "too large for rois and coco, not written" in caplog.text
    labels = tifffile.imread(tmp_path / "slide_labels.ome.tif")
    # Cut or not, no pixel is lost, and none is claimed twice.
    np.testing.assert_array_equal(labels > 0, line > 127)


@pytest.mark.parametrize("seed", range(4))
def test_no_pixel_is_lost_or_counted_twice_where_cells_are_larger_than_the_margin(tmp_path, seed):
    """Of a block that sees it whole, an instance may be nobody's own, or another's too."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(256, 300)), 5)
    probability = (noise > np.quantile(noise, 0.55)).astype(np.float32)
    (tmp_path / strips.PROBABILITY).write_bytes(probability.tobytes())
    tifffile.imwrite(tmp_path / "a.tif", (255 * probability).astype(np.uint8))
    rules = InstanceRules(minimum_area=0, grow_pixels=0)
    with TiffRegions(tmp_path / "a.tif") as image:
        found = blocks.label_blocks(
            image, tmp_path, rules, title="a", group="A", block=128, margin=16
        )
    labels = np.fromfile(tmp_path / blocks.LABELS, np.uint32).reshape(probability.shape)
    assert labels[probability > 0].all()
    assert not labels[rules.label(probability) == 0].any()
    areas = [float(row["area"]) for row in large.read_cells(tmp_path)]
    np.testing.assert_array_equal(areas, np.bincount(labels.ravel())[1:])
    assert found.cells == len(areas) > found.cut > 0


def test_the_command_takes_large_images_in_parts(
    bright_file, picture, tmp_path, monkeypatch, caplog, capfd
):
    from unet_keras import predict

    monkeypatch.setattr(large, "LARGEST_PIXELS", picture.size - 1)
    tifffile.imwrite(tmp_path / "slide.tif", picture)
    Image.fromarray(picture).save(tmp_path / "small.png")
    arguments = [bright_file, tmp_path, "--output", tmp_path / "out", "--tile", 64]

    def run(*more):
        monkeypatch.setattr("sys.argv", ["predict", *map(str, [*arguments, *more])])
        with pytest.raises(SystemExit) as stop:
            predict.main()
        return int(stop.value.code or 0)

    assert run() == 0
    with (tmp_path / "out/counts.csv").open() as file:
        counts = {row["image"]: row for row in csv.DictReader(file)}
    slide, small = counts["slide.tif"], counts["small.png"]
    assert {**slide, "image": ""} == {**small, "image": "", "group": slide["group"]}
    labels = tifffile.imread(tmp_path / "out/slide_labels.ome.tif")
    np.testing.assert_array_equal(labels, tifffile.imread(tmp_path / "out/small_labels.tif"))
    assert [path.name for path in tmp_path.glob("out/.*")] == [".sources.json"]
    assert run("--tta") == 1
    assert "predicted in parts, which needs one run folder" in caplog.text
    tifffile.imwrite(tmp_path / "out/slide_labels.ome.tif", labels)  # by another program
    assert run() == 2
    assert "slide_labels.ome.tif was changed since it was written" in capfd.readouterr().err


def test_the_command_takes_one_channel_of_large_images(
    bright_file, picture, tmp_path, monkeypatch, capfd
):
    from unet_keras import predict

    monkeypatch.setattr(large, "LARGEST_PIXELS", picture.size - 1)
    colors = np.stack([np.zeros_like(picture), picture, 255 - picture], axis=-1)
    tifffile.imwrite(tmp_path / "slide.tif", colors, photometric="rgb")
    Image.fromarray(colors).save(tmp_path / "small.png")

    def run(channel):
        arguments = [bright_file, tmp_path, "--output", tmp_path / f"out{channel}", "--channel"]
        monkeypatch.setattr("sys.argv", ["predict", *map(str, [*arguments, channel])])
        with pytest.raises(SystemExit) as stop:
            predict.main()
        return int(stop.value.code or 0)

    found = []
    for channel in (1, 2):
        assert run(channel) == 0, capfd.readouterr().err
        labels = tifffile.imread(tmp_path / f"out{channel}/slide_labels.ome.tif")
        small = tifffile.imread(tmp_path / f"out{channel}/small_labels.tif")
        np.testing.assert_array_equal(labels, small)
        found.append(labels > 0)
    assert found[0][picture > 127].mean() > 0.95
    assert not np.array_equal(*found)


def test_a_full_disk_is_told_before_labels_are_written_to_it(tmp_path):
    """Mapped into memory, a file without its place on the disk would kill the process."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=rf"'{tmp_path}/labels'"):
            blocks._make_labels(tmp_path / "labels", (90, 80))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    blocks._make_labels(tmp_path / "labels", (90, 80))
    assert not np.fromfile(tmp_path / "labels", np.uint32).reshape(90, 80).any()


def test_an_overlay_holds_one_band_at_a_time(tmp_path):
    class Blank:
        shape = (8192, 8192, 1)

        def __getitem__(self, region):
            return np.zeros((*(side.stop - side.start for side in region), 1), np.uint8)

    def labels(rows, columns):
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint32)

    tracemalloc.start()
    try:
        large._write_overlay(tmp_path / "overlay.png", Blank(), labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Drawing 2048 x 2048 pixels takes 170 MB; all bands of image and labels would be 335 more.
    assert peak < 250e6
