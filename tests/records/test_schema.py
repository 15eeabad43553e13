"""What is written is what is parsed, for every size, dtype and number of instances."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from unet_keras.records.schema import (
    SCHEMA_VERSION,
    Record,
    encode_png,
    encode_record,
    parse_record,
)


def make_record(image, labels, *, maps=None, outlines=(), classes=(), **named):
    texts = {"image_id": "17", "file_name": "A172_ß.tif", "group": "A172", "split": "train"}
    return Record(
        image=image,
        labels=labels,
        maps=maps or {},
        classes=np.array(classes, np.uint8),
        outlines=tuple(outlines),
        source_digest="ab" * 32,
        **{**texts, **named},
    )


def random_image(rng, shape, dtype):
    if dtype == "float32":
        return rng.normal(size=shape).astype(np.float32) * 1e3
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (13, 7), (7, 13, 1), (5, 9, 2), (9, 5, 3), (6, 11, 5)])
def test_images_return_exactly(shape, dtype, rng):
    image = random_image(rng, shape, dtype)
    record = make_record(image, np.zeros(shape[:2], np.uint16))
    channels = shape[2] if len(shape) == 3 else 1
    parsed = parse_record(encode_record(record), maps=(), channels=channels, image_dtype=dtype)
    assert parsed["image"].dtype.name == dtype
    np.testing.assert_array_equal(parsed["image"], image.reshape(*shape[:2], channels))


@pytest.mark.parametrize("largest", [0, 1, 255, 256, 65_535, 65_536, 1_000_000])
def test_labels_return_exactly(largest, rng):
    labels = rng.integers(0, largest, (33, 21), np.uint32, endpoint=True)
    labels[4, 5] = largest
    labels = labels if largest > 65_535 else labels.astype(np.uint16)
    parsed = parse_record(encode_record(make_record(np.zeros((33, 21), np.uint8), labels)), maps=())
    assert parsed["labels"].dtype == tf.int32
    np.testing.assert_array_equal(parsed["labels"], labels)


def test_a_label_per_pixel_beyond_sixteen_bits():
    labels = np.arange(1, 300 * 301 + 1, dtype=np.uint32).reshape(300, 301)
    parsed = parse_record(
        encode_record(make_record(np.zeros(labels.shape, np.uint8), labels)), maps=()
    )
    np.testing.assert_array_equal(parsed["labels"], labels)


def test_maps_return_within_half_a_step(rng):
    border, distance = rng.random((2, 21, 34), np.float32)
    border[0, :2] = 0, 1
    record = make_record(
        np.zeros((21, 34), np.uint8),
        np.zeros((21, 34), np.uint16),
        maps={"border": border, "distance": distance},
    )
    parsed = parse_record(encode_record(record), maps=("border", "distance"))
    np.testing.assert_allclose(parsed["border"], border, atol=0.51 / 65535, rtol=0)
    np.testing.assert_allclose(parsed["distance"], distance, atol=0.51 / 65535, rtol=0)
    assert parsed["border"][0, 0] == 0
    assert parsed["border"][0, 1] == 1
    assert "distance" not in parse_record(encode_record(record), maps=("border",))


def test_instances_and_texts_return(rng):
    outlines = tuple(rng.bytes(n) for n in (0, 1, 127, 128, 20_000))
    record = make_record(
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6), np.uint16),
        outlines=outlines,
        classes=(1, 2, 3, 255, 1),
    )
    parsed = parse_record(encode_record(record), maps=())
    assert tuple(parsed["outlines"].numpy()) == outlines
    np.testing.assert_array_equal(parsed["classes"], record.classes)
    assert parsed["classes"].dtype == tf.int32
    assert parsed["file_name"].numpy().decode() == "A172_ß.tif"
    assert (parsed["image_id"], parsed["group"], parsed["split"]) == (b"17", b"A172", b"train")
    assert (int(parsed["height"]), int(parsed["width"])) == (4, 6)


def test_an_image_without_instances():
    record = make_record(np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint16))
    parsed = parse_record(encode_record(record), maps=())
    assert parsed["outlines"].shape == (0,)
    assert parsed["classes"].shape == (0,)


def test_parsing_in_a_graph_equals_parsing_eagerly(rng):
    serialized = [
        encode_record(
            make_record(
                random_image(rng, (size, size + 1), "uint16"),
                rng.integers(0, top, (size, size + 1)).astype(np.uint32),
                maps={"border": rng.random((size, size + 1), np.float32)},
            )
        )
        for size, top in ((5, 100), (8, 70_000))
    ]
    dataset = tf.data.Dataset.from_tensor_slices(serialized)
    dataset = dataset.map(lambda s: parse_record(s, image_dtype="uint16"))
    for one, parsed in zip(serialized, dataset, strict=True):
        eager = parse_record(tf.constant(one), image_dtype="uint16")
        assert parsed.keys() == eager.keys()
        for name, value in parsed.items():
            np.testing.assert_array_equal(value, eager[name], err_msg=name)


def test_tensorflow_reads_the_bytes_as_an_example():
    image, labels = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint16)
    record = make_record(image, labels, outlines=[b"x"], classes=[1])
    serialized = encode_record(record)
    example = tf.train.Example.FromString(serialized)
    assert example.features.feature["schema_version"].int64_list.value == [SCHEMA_VERSION]
    assert example.features.feature["outlines"].bytes_list.value == [b"x"]
    assert len(example.features.feature) == 12 + len(record.maps)


def test_equal_records_give_equal_bytes(rng):
    image = random_image(rng, (16, 16), "uint8")
    maps = {"border": rng.random((16, 16), np.float32), "distance": np.zeros((16, 16), np.float32)}
    labels = np.zeros((16, 16), np.uint16)
    one = make_record(image, labels, maps=maps)
    other = make_record(image.copy(), labels.astype(np.uint32), maps=dict(reversed(maps.items())))
    assert encode_record(one) == encode_record(other)


@pytest.mark.parametrize("runs_only", [True, False])
def test_any_png_reader_reads_the_pixels(runs_only, rng):
    for shape, dtype in (((9, 14), "uint8"), ((9, 14, 3), "uint8"), ((9, 14), "uint16")):
        pixels = random_image(rng, shape, dtype)
        read = Image.open(io.BytesIO(encode_png(pixels, runs_only=runs_only)))
        np.testing.assert_array_equal(np.asarray(read), pixels)


def test_arrays_that_do_not_belong_together_are_refused():
    image, labels = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint16)
    with pytest.raises(ValueError, match=r"labels of image 17 .*\(6, 4\)"):
        make_record(image, labels.T)
    with pytest.raises(ValueError, match=r"border of image 17 .*\(4, 5\)"):
        make_record(image, labels, maps={"border": np.zeros((4, 5), np.float32)})
    with pytest.raises(ValueError, match="float64"):
        make_record(image.astype(float), labels)
    with pytest.raises(ValueError, match="1 outlines and 2 classes"):
        make_record(image, labels, outlines=[b""], classes=[1, 1])
    for value in (np.nan, -0.1, 1.1):
        wrong = make_record(image, labels, maps={"border": np.full((4, 6), value, np.float32)})
        with pytest.raises(ValueError, match=r"border of image 17"):
            encode_record(wrong)
    with pytest.raises(ValueError, match="float64"):
        parse_record(encode_record(make_record(image, labels)), image_dtype="float64")
