"""Command: write images, masks and border weight maps as TFRecord shards.

`python -m unet_keras.make_records [CONFIG] [key.path=value ...]`
"""

import argparse
import logging
from pathlib import Path

from unet_keras.command import experiment_parser, names_source, run, split_config
from unet_keras.errors import InputError

logger = logging.getLogger(__name__)


def main() -> None:
    """Parse the arguments and convert, or verify what was converted."""
    parser = experiment_parser("make_records", "Convert annotated images into TFRecord shards.")
    parser.add_argument(
        "--verify", metavar="PATH", help="check the records in this folder instead of writing any"
    )
    parser.add_argument(
        "--write-masks",
        metavar="DIR",
        help="write images and masks as grey PNG files too, into DIR/images and DIR/masks",
    )
    run(parser, _command, resumes=lambda asked: asked.verify is None)


def _command(arguments: argparse.Namespace) -> int:
    from unet_keras import config as configuration

    if arguments.verify is not None:
        return verify_records(Path(arguments.verify))
    from unet_keras.records.conversion import convert, refuse_replacing

    if arguments.write_masks == "":  # which would be the current folder
        raise InputError("--write-masks has no folder's name behind it; name one.")
    path, overrides = split_config(arguments)
    masks = None if arguments.write_masks is None else Path(arguments.write_masks)
    config = configuration.load(path, overrides)
    if not names_source(path, overrides):
        refuse_replacing(config)
    convert(config, masks=masks)
    return 0


def verify_records(path: Path) -> int:
    """Check every shard; log each problem; return 0 where there is none, else 1."""
    from unet_keras.records.manifest import read_manifest, verify
    from unet_keras.records.placing import in_use

    with in_use(path):
        manifest, problems = read_manifest(path), verify(path)
    for problem in problems:
        logger.info("%s", problem)
    if not problems:
        images = sum(split.images for split in manifest.splits.values())
        logger.info("%s: %d images in good order", path, images)
    return 1 if problems else 0


if __name__ == "__main__":
    main()
