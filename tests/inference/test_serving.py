import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from unet_keras.errors import InputError
from unet_keras.inference.serving import export_saved_model, load_saved_model
from unet_keras.inference.tiling import predict_tiled
from unet_keras.sources.channels import fit_channels

pytestmark = pytest.mark.slow

SIZES = [(333, 434), (1, 1), (64, 48), (5, 131)]


def noise(rng, *shape, dtype=np.uint8):
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.fixture(scope="module")
def exported(same, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "saved_model"
    export_saved_model(same, directory, metadata={"classes": ["background", "cell"]})
    return directory


@pytest.fixture(scope="module")
def exported_valid(valid, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "saved_model"
    export_saved_model(valid, directory, metadata={})
    return directory


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def loaded_valid(exported_valid):
    return tf.saved_model.load(str(exported_valid))


@pytest.fixture(scope="module")
def served(exported):
    return load_saved_model(str(exported))


def test_tensorflow_alone_serves_it(same, valid, exported, exported_valid, rng, tmp_path):
    images = {f"image_{n}": noise(rng, 2, *size, 1) for n, size in enumerate(SIZES)}
    file = tmp_path / "given.npz"
    np.savez(file, models=[str(exported), str(exported_valid)], **images)
    script = Path(__file__).with_name("load_alone.py")
    done = subprocess.run(
        [sys.executable, str(script), str(file)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = np.load(tmp_path / "results.npz")
    assert len(results.files) == 2 * 3 * len(SIZES)
    for number, model in enumerate((same, valid)):
        for name, batch in images.items():
            expected = [predict_tiled(model, image) for image in batch]
            for signature in ("serving_default", "tiled", "encoded"):
                found = results[f"{name}_{number}_{signature}"]
                np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_a_loaded_model_predicts_as_the_network(same, served, rng, size):
    image = noise(rng, *size)
    predicted = served(image)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, predict_tiled(same, image), atol=1e-5)


def test_it_knows_what_it_is(served, exported):
    assert served.directory == exported
    assert served.channels == 1
    assert served.image_dtype == np.uint8
    assert served.metadata["classes"] == ["background", "cell"]
    assert served.metadata["image_dtype"] == "uint8"


def test_its_graph_holds_no_python(exported):
    graph = (exported / "saved_model.pb").read_bytes()
    assert b"PyFunc" not in graph
    assert b"_tf_keras" not in graph
    assert {path.name for path in exported.iterdir()} <= {
        "assets",
        "fingerprint.pb",
        "metadata.json",
        "saved_model.pb",
        "variables",
    }


@pytest.mark.parametrize(("size", "tile"), [((61, 132), 16), ((61, 132), 70), ((3, 70), 1)])
def test_tiles_inside_the_graph(same, valid, loaded, loaded_valid, rng, size, tile):
    images = noise(rng, 2, *size, 1)
    for model, module in ((same, loaded), (valid, loaded_valid)):
        outputs = module.signatures["tiled"](images=tf.constant(images), tile=tf.constant(tile))
        for image, found in zip(images, outputs["probabilities"].numpy(), strict=True):
            np.testing.assert_allclose(found, predict_tiled(model, image), atol=1e-5)


def test_a_loaded_model_predicts_in_tiles(served, rng):
    image = noise(rng, 70, 90)
    np.testing.assert_allclose(served(image, tile=16), served(image), atol=1e-5)
    with pytest.raises(InputError, match="tile=0 must be at least 1"):
        served(image, tile=0)


def test_tiles_of_group_normalization_are_told(make_model, rng, tmp_path):
    model = make_model(normalization="group")
    export_saved_model(model, tmp_path / "m", metadata={})
    served, image = load_saved_model(tmp_path / "m"), rng.integers(0, 255, (40, 48), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = served(image)
        np.testing.assert_allclose(served(image, tile=48), whole, atol=1e-5)
    with pytest.warns(UserWarning, match="statistics from each tile"):
        served(image, tile=16)


def test_tiles_have_a_size(loaded):
    images = tf.zeros((1, 8, 8, 1), tf.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 1 pixel"):
        loaded.signatures["tiled"](images=images, tile=tf.constant(0))


def test_encoded_images_of_several_sizes(same, loaded, rng):
    images = [noise(rng, 30, 41, 1), noise(rng, 64, 20, 1)]
    files = [tf.io.encode_png(image).numpy() for image in images]
    files.append(tf.io.encode_jpeg(images[0], quality=95).numpy())
    images.append(tf.io.decode_jpeg(files[-1]).numpy())
    outputs = loaded.signatures["encoded"](encoded=tf.constant(files))
    assert outputs["sizes"].numpy().tolist() == [[30, 41], [64, 20], [30, 41]]
    padded = outputs["probabilities"].numpy()
    assert padded.shape == (3, 64, 41, 1)
    for image, predicted in zip(images, padded, strict=True):
        height, width = image.shape[:2]
        expected = predict_tiled(same, image)
        np.testing.assert_allclose(predicted[:height, :width], expected, atol=1e-5)
        assert not predicted[height:].any()
        assert not predicted[:, width:].any()


def test_encoded_values_are_those_stored(make_model, rng, tmp_path):
    """TensorFlow by itself makes 25,700 of 100 where 16 bits are wanted."""
    model = make_model(mean=3e3, scale=1e3)
    export_saved_model(model, tmp_path / "m", metadata={}, image_dtype="uint16")
    signatures = tf.saved_model.load(str(tmp_path / "m")).signatures
    narrow = rng.integers(0, 256, (33, 40, 1), np.uint8)
    wide = rng.integers(0, 6000, (33, 40, 1), np.uint16)
    for image in (narrow, wide):
        file = tf.io.encode_png(image).numpy()
        found = signatures["encoded"](encoded=tf.constant([file]))["probabilities"]
        images = tf.constant(image[None].astype(np.uint16))
        expected = signatures["serving_default"](images=images)["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("leak", [0, 10, 90])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_encoded_colors_become_the_grey_that_predict_sees(make_model, rng, tmp_path, dtype, leak):
    """A nuclear stain's blue is no luminance, of which it would keep a tenth."""
    model = make_model(mean=100.0, scale=50.0)
    export_saved_model(model, tmp_path / "m", metadata={}, image_dtype=np.dtype(dtype).name)
    signatures = tf.saved_model.load(str(tmp_path / "m")).signatures
    image = np.zeros((33, 40, 3), dtype)
    image[..., 2] = rng.integers(0, 250, (33, 40))
    image[3, 5] = (0, leak, 249)
    file = tf.io.encode_png(image).numpy()
    found = signatures["encoded"](encoded=tf.constant([file]))["probabilities"]
    images = tf.constant(fit_channels(image, 1)[None])
    expected = signatures["serving_default"](images=images)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5 if leak < 20 else 0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"group_pattern": "-(\\w+)\\."}', r"Invalid .escape.*; a backslash is written twice"),
        ('{"group_pattern": "HeLa"}', r"group_pattern of .*'HeLa' must have a group in parenthe"),
        ('{"group_pattern": 5}', r"group_pattern of .*5 is no regular expression"),
        ("[]", r"metadata\.json holds a list instead"),
    ],
)
def test_metadata_that_were_edited_wrongly_are_named(exported, tmp_path, text, message):
    shutil.copytree(exported, tmp_path / "m")
    (tmp_path / "m" / "metadata.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_saved_model(tmp_path / "m")


def test_encoded_refuses_more_bits_than_the_training_had(loaded, rng):
    file = tf.io.encode_png(rng.integers(0, 3000, (8, 8, 1), np.uint16)).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError, match="PNG of 16 bits"):
        loaded.signatures["encoded"](encoded=tf.constant([file]))


@pytest.mark.parametrize("files", [[], [b"no image"], [b""]])
def test_encoded_refuses_what_is_no_image(loaded, files):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"empty|Unknown image"):
        loaded.signatures["encoded"](encoded=tf.constant(files, tf.string))


def test_sixteen_bits_and_colors_and_maps(make_model, rng, tmp_path):
    model = make_model(input_channels=3, num_classes=3, regression_maps=1, mean=3e4, scale=1e4)
    metadata = {"image_dtype": "float16", "note": "16 bits"}
    export_saved_model(model, tmp_path / "m", metadata=metadata, image_dtype="uint16")
    served = load_saved_model(tmp_path / "m")
    known = {"image_dtype": "uint16", "channels": 3, "tiles_differ": False}
    assert served.metadata == {**known, "note": "16 bits"}
    image = noise(rng, 33, 20, 3, dtype=np.uint16)
    expected = predict_tiled(model, image)
    np.testing.assert_allclose(served(image), expected, atol=1e-4)
    encoded = tf.saved_model.load(str(tmp_path / "m")).signatures["encoded"]
    outputs = encoded(encoded=tf.constant([tf.io.encode_png(image).numpy()]))
    np.testing.assert_allclose(outputs["probabilities"][0], expected[..., :3], atol=1e-5)
    np.testing.assert_allclose(outputs["maps"][0], expected[..., 3:], atol=1e-4)
    bytes_ = image // 256
    np.testing.assert_array_equal(served(bytes_.astype(np.uint8)), served(bytes_))


def test_channels_that_no_file_has(make_model, rng, tmp_path):
    model = make_model(input_channels=2, depth=1)
    export_saved_model(model, tmp_path / "m", metadata={})
    assert list(tf.saved_model.load(str(tmp_path / "m")).signatures) == ["serving_default", "tiled"]
    image = noise(rng, 9, 9, 2)
    served = load_saved_model(tmp_path / "m")
    np.testing.assert_allclose(served(image), predict_tiled(model, image), atol=1e-5)


def test_floating_images(make_model, rng, tmp_path):
    model = make_model(depth=1, base_filters=2, mean=0.5, scale=0.3)
    export_saved_model(model, tmp_path / "m", metadata={}, image_dtype="float32")
    image = rng.random((9, 14))
    served = load_saved_model(tmp_path / "m")
    np.testing.assert_allclose(served(image), predict_tiled(model, image), atol=1e-5)


def test_whole_floats_are_taken_and_others_are_not(served, rng):
    image = noise(rng, 8, 8)
    np.testing.assert_array_equal(served(image.astype(np.float64)), served(image))
    with pytest.raises(InputError, match=r"type float64 .* takes uint8"):
        served(image / 255)
    with pytest.raises(InputError, match=r"type float64 .* takes uint8"):
        served(image - 1e9)
    with pytest.raises(InputError, match=r"type uint16 .* takes uint8"):
        served(image.astype(np.uint16) + 300)
    with pytest.raises(InputError, match="3 channels, but the network takes 1"):
        served(np.zeros((8, 8, 3), np.uint8))


def test_a_model_is_replaced_whole_or_not_at_all(make_model, tmp_path, monkeypatch):
    model, directory = make_model(depth=1, base_filters=1), tmp_path / "model"
    export_saved_model(model, directory, metadata={"version": 1})
    export_saved_model(model, directory, metadata={"version": 2})
    assert load_saved_model(directory).metadata["version"] == 2

    def failing_save(module, path, **options):
        Path(path).mkdir()
        (Path(path) / "saved_model.pb").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", failing_save)
    with pytest.raises(OSError, match="No space"):
        export_saved_model(model, directory, metadata={"version": 3})
    assert load_saved_model(directory).metadata["version"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_folders_are_not_replaced(same, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="is no SavedModel, so it is not replaced"):
        export_saved_model(same, tmp_path, metadata={})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_errors_say_what_came(same, tmp_path):
    with pytest.raises(
        InputError, match="image_dtype='int8' must be one of uint8, uint16, float32"
    ):
        export_saved_model(same, tmp_path / "m", metadata={}, image_dtype="int8")
    with pytest.raises(InputError, match=r"has no saved_model\.pb"):
        load_saved_model(tmp_path / "absent")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(InputError, match="bad cannot be used as a SavedModel") as caught:
        load_saved_model(tmp_path / "bad")
    assert "\n" not in str(caught.value)
