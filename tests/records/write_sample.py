"""Writes `tfrecords/sample/`, once a schema version: `python -m tests.records.write_sample`.

It stays as it is while the schema does, so that later versions are seen to read today's records.
"""

import shutil
from pathlib import Path

from tests.records.examples import DrawnReference, drawn
from unet_keras.records.manifest import STAMP_NAME
from unet_keras.records.writer import write_records

SAMPLE = Path(__file__).parents[2] / "tfrecords" / "sample"


def sample_references() -> list[DrawnReference]:
    """What the sample was made of."""
    return drawn({"train": 3, "val": 1, "test": 2}, size=(48, 64), classes=2)


def main() -> None:
    shutil.rmtree(SAMPLE, ignore_errors=True)
    write_records(
        sample_references(),
        SAMPLE,
        maps=("border", "distance"),
        shard_images=2,
        workers=1,
        configuration={"kind": "drawn by tests/records/write_sample.py"},
    )
    (SAMPLE / STAMP_NAME).unlink()


if __name__ == "__main__":
    main()
