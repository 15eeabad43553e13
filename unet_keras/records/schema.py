"""One record: what is in it, how it is written, how it is parsed.

    image      uint8, uint16 or float32  (H, W) or (H, W, C)  grey values as read
    labels     uint16 or uint32 (H, W)   0 background, 1..n; number k is outlines[k - 1]
    maps       float32 (H, W) in [0, 1]  by name: border, distance
    classes    uint8 (n,)                class index 1..K of each instance
    outlines   n compressed COCO run-length codes of size (H, W), before any overlap was decided

Written without TensorFlow, so that processes that convert stay small; parsed by TensorFlow's ops.
`tfrecords/README.md` documents the format for other readers; `SCHEMA_VERSION` counts its versions.

Pixels are PNG-coded with one channel, or three for RGB. Whatever PNG has no room for is laid out
as *planes* of full width one below the other: the channels of other images, and the low and high
16 bits of float32 images and of more than 65,535 labels.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SCHEMA_VERSION = 1
IMAGE_DTYPES = ("uint8", "uint16", "float32")
MAP_STEPS = 65535  # a map's value 1 as a fixed-point number
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # PNG color types


@dataclass(frozen=True, eq=False)
class Record:
    """One annotated image with its targets, as it is stored.

    Attributes:
        image: uint8, uint16 or float32, (H, W) or (H, W, C), grey values as read.
        labels: uint16 or uint32 (H, W), 0 background, 1..n; number k is `outlines[k - 1]`.
        maps: float32 (H, W) in [0, 1], by name.
        classes: uint8 (n,), class index 1..K.
        outlines: n compressed COCO run-length codes.
        image_id: Unique within its source.
        file_name: The image's name, without folders.
        group: What scores are broken down by, the cell type in LIVECell.
        split: `train`, `val` or `test`.
        source_digest: SHA-256 of the image and its instances as they were read, hexadecimal.
    """

    image: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    outlines: tuple[bytes, ...]
    image_id: str
    file_name: str
    group: str
    split: str
    source_digest: str
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the arrays belong together.

        Raises:
            ValueError: A shape or dtype is not as the class says.
        """
        size = self.image.shape[:2]
        if self.image.dtype.name not in IMAGE_DTYPES or self.image.ndim not in (2, 3):
            raise ValueError(
                f"Image {self.image_id} ({self.file_name}) is {self.image.dtype} of shape "
                f"{self.image.shape}; a record holds {', '.join(IMAGE_DTYPES)} (H, W) or (H, W, C)."
            )
        for name, array in {"labels": self.labels, **self.maps}.items():
            if array.shape != size:
                raise ValueError(
                    f"{name} of image {self.image_id} ({self.file_name}) has shape {array.shape}, "
                    f"the image {size}; they must be equal."
                )
        if len(self.classes) != len(self.outlines):
            raise ValueError(
                f"Image {self.image_id} ({self.file_name}) has {len(self.outlines)} outlines and "
                f"{len(self.classes)} classes; each instance needs one of both."
            )


def encode_record(record: Record) -> bytes:
    """Serialize a record as a `tf.train.Example`; equal records give equal bytes.

    Returns:
        The protocol buffer, keys in alphabetical order.

    Raises:
        ValueError: A map has values outside [0, 1].
    """
    height, width = record.labels.shape
    features: dict[str, Sequence[bytes] | int] = {
        "schema_version": SCHEMA_VERSION,
        "image": [_encode_image(record.image)],
        "labels": [_encode_labels(record.labels)],
        "classes": [record.classes.astype(np.uint8).tobytes()],
        "outlines": record.outlines,
        "height": height,
        "width": width,
    }
    for name in _TEXTS:
        features[name] = [getattr(record, name).encode()]
    for name, values in record.maps.items():
        features[f"map/{name}"] = [_encode_map(values, f"{name} of image {record.image_id}")]
    return encode_example(features)


def parse_record(
    serialized: "tf.Tensor",
    *,
    maps: Sequence[str] = ("border",),
    channels: int = 1,
    image_dtype: str = "uint8",
) -> "dict[str, tf.Tensor]":
    """Parse one serialized record with TensorFlow ops, eagerly or inside `Dataset.map`.

    Args:
        serialized: string (), a record as `encode_record` wrote it.
        maps: Names of the maps that are wanted; others that are stored are not decoded.
        channels: C of the image, from the manifest.
        image_dtype: uint8, uint16 or float32, from the manifest.

    Returns:
        image `image_dtype` (H, W, C); labels int32 (H, W); each map, by its name, float32 (H, W)
        in [0, 1]; classes int32 (n,); outlines string (n,); image_id, file_name, group, split
        string (); height, width int32 ().

    Raises:
        ValueError: `image_dtype` is none of the three.
    """
    import tensorflow as tf  # here, so that the processes that only encode never load it

    if image_dtype not in IMAGE_DTYPES:
        raise ValueError(f"image_dtype={image_dtype!r} must be one of {', '.join(IMAGE_DTYPES)}.")
    single = tf.io.FixedLenFeature([], tf.string)
    number = tf.io.FixedLenFeature([], tf.int64)
    texts = ("image_id", "file_name", "group", "split")
    features: dict[str, Any] = dict.fromkeys(("image", "labels", "classes", *texts), single)
    features |= dict.fromkeys(("height", "width"), number)
    features |= {f"map/{name}": single for name in maps}
    features["outlines"] = tf.io.RaggedFeature(tf.string)
    stored = tf.io.parse_single_example(serialized, features)

    height, width = (tf.cast(stored[name], tf.int32) for name in ("height", "width"))
    size = (height, width)
    parsed = {name: stored[name] for name in ("outlines", *texts)}
    parsed |= {"height": height, "width": width}
    parsed["image"] = _parse_image(stored["image"], size, channels, image_dtype)
    parsed["labels"] = _parse_words(stored["labels"], size)
    parsed["classes"] = tf.cast(tf.io.decode_raw(stored["classes"], tf.uint8), tf.int32)
    for name in maps:
        steps = tf.io.decode_png(stored[f"map/{name}"], channels=1, dtype=tf.uint16)[..., 0]
        parsed[name] = tf.cast(steps, tf.float32) / MAP_STEPS
    return parsed


def encode_png(pixels: np.ndarray, *, runs_only: bool = False) -> bytes:
    """Code pixels as PNG, without row filters.

    On microscope images and label maps, filters and higher levels cost up to ten times the time
    for hardly smaller or even larger files (measured on LIVECell); `runs_only` suits noisy images,
    where only entropy coding gains anything, the full search suits label maps.

    Args:
        pixels: uint8 or uint16, (H, W) or (H, W, 3).
        runs_only: Whether zlib looks for runs of one byte only.

    Returns:
        A complete PNG file.
    """
    height, width = pixels.shape[:2]
    big_endian = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">"))
    rows = np.zeros((height, 1 + big_endian[0].nbytes), np.uint8)  # each begins with filter 0
    rows[:, 1:] = big_endian.reshape(height, -1).view(np.uint8)
    level, strategy = (1, zlib.Z_RLE) if runs_only else (3, zlib.Z_DEFAULT_STRATEGY)
    coder = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    data = coder.compress(rows.data) + coder.flush()
    color = _RGB if pixels.ndim == 3 else _GREY
    header = struct.pack(">2I5B", width, height, 8 * pixels.dtype.itemsize, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _encode_image(image: np.ndarray) -> bytes:
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    is_float = image.dtype == np.float32
    if image.ndim == 3 and (is_float or image.shape[-1] != 3):
        image = np.moveaxis(image, -1, 0).reshape(-1, image.shape[1])
    return encode_png(_as_words(image.view(np.uint32)) if is_float else image, runs_only=True)


def _encode_labels(labels: np.ndarray) -> bytes:
    small = labels.size == 0 or labels.max() <= 0xFFFF
    return encode_png(labels.astype(np.uint16) if small else _as_words(labels.astype(np.uint32)))


def _encode_map(values: np.ndarray, name: str) -> bytes:
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"The map {name} has values from {values.min()} to {values.max()}; "
            "records hold maps in [0, 1]."
        )
    return encode_png(np.rint(values * np.float32(MAP_STEPS)).astype(np.uint16))


def _as_words(wide: np.ndarray) -> np.ndarray:
    """uint32 (H, W) -> uint16 (2 H, W), the low words above the high words."""
    return np.concatenate([wide & 0xFFFF, wide >> 16]).astype(np.uint16)


def _parse_words(png: "tf.Tensor", size: "tuple[tf.Tensor, tf.Tensor]") -> "tf.Tensor":
    """PNG of one or two planes of words -> int32 (H, W)."""
    import tensorflow as tf

    words = tf.cast(tf.io.decode_png(png, channels=1, dtype=tf.uint16), tf.int32)
    planes = tf.reshape(words, [-1, *size])
    factors = tf.constant([1, 1 << 16])[: tf.shape(planes)[0], tf.newaxis, tf.newaxis]
    return tf.reduce_sum(planes * factors, axis=0)


def _parse_image(
    png: "tf.Tensor", size: "tuple[tf.Tensor, tf.Tensor]", channels: int, image_dtype: str
) -> "tf.Tensor":
    import tensorflow as tf

    stored = tf.uint8 if image_dtype == "uint8" else tf.uint16
    if image_dtype != "float32" and channels in (1, 3):
        image = tf.io.decode_png(png, channels=channels, dtype=stored)
        return tf.ensure_shape(image, [None, None, channels])
    planes = tf.io.decode_png(png, channels=1, dtype=stored)
    if image_dtype == "float32":
        words = tf.cast(tf.reshape(planes, [2, channels, *size]), tf.uint32)
        planes = tf.bitcast(words[0] | tf.bitwise.left_shift(words[1], 16), tf.float32)
    image = tf.transpose(tf.reshape(planes, [channels, *size]), [1, 2, 0])
    return tf.ensure_shape(image, [None, None, channels])


def encode_example(features: dict[str, Sequence[bytes] | int]) -> bytes:
    """Write a `tf.train.Example` in protocol buffers' wire format, keys in alphabetical order.

    Example { Features features = 1 }, Features { map<string, Feature> feature = 1 },
    Feature { BytesList = 1 | Int64List = 3 }, each list { repeated value = 1 }.
    """
    entries = []
    for name, value in sorted(features.items()):
        if isinstance(value, int):
            values = _field(3, _field(1, _varint(value)))  # packed
        else:
            values = _field(1, b"".join(_field(1, item) for item in value))
        entries.append(_field(1, _field(1, name.encode()) + _field(2, values)))
    return _field(1, b"".join(entries))


def read_features(serialized: bytes) -> dict[str, bytes]:
    """Read a `tf.train.Example` without TensorFlow, each feature as its undecoded list.

    Raises:
        ValueError: It is none.
    """
    (features,) = _read_fields(serialized, 1)
    entries = (_read_fields(entry, 1, 2) for entry in _read_fields(features, 1))
    return {name.decode(): value for name, value in entries}


def required_features(maps: Sequence[str]) -> set[str]:
    """Names of what every record holds, with these maps."""
    return {*_ALWAYS, *(f"map/{name}" for name in maps)}


_TEXTS = ("image_id", "file_name", "group", "split", "source_digest")
_ALWAYS = ("schema_version", "image", "labels", "classes", "outlines", "height", "width", *_TEXTS)


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_fields(message: bytes, *numbers: int) -> list[bytes]:
    """Split a message of length-delimited fields; with several numbers, one field of each."""
    found = []
    position = 0
    while position < len(message):
        key = message[position]
        length, position = _read_varint(message, position + 1)
        body = message[position : position + length]
        if key & 7 != 2 or key >> 3 not in numbers or len(body) < length:
            raise ValueError(f"no tf.train.Example: field {key >> 3} at byte {position}")
        found.append(body)
        position += length
    if len(numbers) > 1 and len(found) != len(numbers):
        raise ValueError(f"no tf.train.Example: {len(found)} fields instead of {len(numbers)}")
    return found


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(message):
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
    raise ValueError(f"no tf.train.Example: it ends at byte {position}")
