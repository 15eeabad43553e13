"""Parts: the few images one task converts, in whatever process, at whatever time.

A part is known by a digest of everything that decides its bytes. Its file and what was counted in
it stay until its shard is complete, so a conversion that was killed goes on with what is there.
Joined end to end in order, parts are shards.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings, build_record
from unet_keras.records.framing import frame
from unet_keras.records.schema import SCHEMA_VERSION, encode_record
from unet_keras.records.statistics import Statistics
from unet_keras.sources.base import SampleReference

PART_IMAGES = 8
# Their versions decide the records' bytes.
LIBRARIES = ("unet_keras", "numpy", "numba", "pillow", "pycocotools", "scipy", "tifffile")


class UnfinishedError(InputError):
    """A conversion that the machine ended, not the data: what is finished is kept."""


@dataclass(frozen=True, eq=False)
class Part:
    """What one task converts.

    Attributes:
        name: Digest of all that decides its bytes.
        folder: Where its files go.
        references: The images, in order.
        settings: What is made of each.
    """

    name: str
    folder: Path
    references: tuple[SampleReference, ...]
    settings: TargetSettings


@dataclass(frozen=True)
class PartResult:
    """A finished part.

    Attributes:
        name: Of the part.
        bytes: Size of its file in bytes.
        sha256: Of its file, hexadecimal.
        statistics: What was counted.
        seconds: Where the time went, by stage; empty for parts of an earlier run.
    """

    name: str
    bytes: int
    sha256: str
    statistics: Statistics
    seconds: dict[str, float]


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the records' bytes."""
    return {name: version(name) for name in LIBRARIES}


@cache
def _code_digest() -> str:
    """SHA-256 of the rooms that decide the records' bytes, so that an edit of them counts."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for room in ("sources", "targets", "records"):
        for file in sorted((package / room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def fingerprint(reference: SampleReference) -> str:
    """State cheaply what decides a sample: its reference's own account, or its fields."""
    own = getattr(reference, "fingerprint", None)
    if own is not None:
        return f"{type(reference).__name__} {own()}"
    values = [(field.name, getattr(reference, field.name)) for field in fields(reference)]
    texts = [f"{name}={v.tolist() if isinstance(v, np.ndarray) else v!r}" for name, v in values]
    return f"{type(reference).__name__} {texts}"


def finished_part(folder: Path, name: str) -> PartResult | None:
    """Return what an earlier run left of a part, None where that is not complete."""
    try:
        state = json.loads(account_file(folder, name).read_text(encoding="utf-8"))
        return PartResult(
            name, state["bytes"], state["sha256"], Statistics.from_json(state["statistics"]), {}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def part_file(folder: Path, name: str) -> Path:
    """The file of a part's records."""
    return folder / f"{name}.part"


def account_file(folder: Path, name: str) -> Path:
    """The file of what was counted in a part."""
    return folder / f"{name}.json"


def convert_part(part: Part) -> PartResult:
    """Convert a part and keep it.

    Raises:
        InputError: An image or its annotations are damaged.
        UnfinishedError: The disk is full.
    """
    clock = Stopwatch()
    statistics = Statistics()
    with replacing(part_file(part.folder, part.name)) as temporary:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for reference in part.references:
                data = _convert(reference, part.settings, statistics, clock)
                with clock("write"):
                    file.write(data)
                    digest.update(data)
            size = file.tell()
    # The account comes last: where it is, the file is complete.
    result = PartResult(part.name, size, digest.hexdigest(), statistics, dict(clock.seconds))
    state = {"bytes": size, "sha256": result.sha256, "statistics": statistics.to_json()}
    write_text(account_file(part.folder, part.name), json.dumps(state))
    return result


def _convert(
    reference: SampleReference,
    settings: TargetSettings,
    statistics: Statistics,
    clock: "Stopwatch",
) -> bytes:
    with clock("load"):
        sample = reference.load()
    record, foreground = build_record(sample, settings, stage=clock)
    with clock("count"):
        annotated = getattr(reference, "instance_count", len(sample.outlines))
        without_pixels = annotated - len(sample.outlines)
        statistics.add(Statistics.of(record, foreground, without_pixels=without_pixels))
    with clock("encode"):
        return frame(encode_record(record))


class Stopwatch:
    """Adds up the seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure what runs inside."""
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name that becomes the path when all went well.

    Raises:
        UnfinishedError: The disk is full or may not be written to.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.temporary")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UnfinishedError(
            f"{path.parent} cannot be written to ({error.strerror}); give it room and start again: "
            "what is finished is kept."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def plan_parts(
    references: Sequence[SampleReference], folder: Path, settings: TargetSettings
) -> list[Part]:
    """Cut the images of one shard into parts, the same whatever the number of workers."""
    common = repr((SCHEMA_VERSION, _code_digest(), library_versions(), settings))
    parts = []
    for start in range(0, len(references), PART_IMAGES):
        some = tuple(references[start : start + PART_IMAGES])
        texts = "\n".join([common, *map(fingerprint, some)])
        name = hashlib.sha256(texts.encode()).hexdigest()[:32]
        parts.append(Part(name, folder, some, settings))
    return parts


def state_of(path: Path) -> dict[str, Any]:
    """Read a small JSON file, empty where there is none."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
