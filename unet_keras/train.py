"""Command: train a network, or go on where the same command was stopped.

`python -m unet_keras.train [CONFIG] [key.path=value ...] [--find-lr] [--preview N]`
"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from unet_keras.command import experiment_parser, import_tensorflow, names_source, run, split_config
from unet_keras.errors import InputError

if TYPE_CHECKING:
    from unet_keras.config import Config

logger = logging.getLogger(__name__)


def main() -> None:
    """Parse the arguments and train."""
    parser = experiment_parser("train", "Train a U-Net on records, resuming if stopped.")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--find-lr",
        action="store_true",
        help="do not train, but raise the learning rate step by step, draw the losses beside the "
        "run folder and suggest a rate for the first phase",
    )
    instead.add_argument(
        "--preview",
        type=int,
        metavar="N",
        help="do not train, but draw N training images as the network would see them beside the "
        "run folder: transformed, with a grid, labels and weights",
    )
    run(parser, _command, resumes=lambda asked: not (asked.find_lr or asked.preview))


def _command(arguments: argparse.Namespace) -> None:
    from unet_keras import config as configuration
    from unet_keras.records.origin import demand_read

    path, overrides = split_config(arguments)
    config = configuration.load(path, overrides)
    demand_read(config.source)
    if arguments.preview is not None and arguments.preview < 1:
        raise InputError(f"--preview {arguments.preview} must be at least 1")
    if not (Path(config.records.path) / "manifest.json").exists():
        from unet_keras.records.conversion import convert, refuse_replacing

        import_tensorflow()  # planning would, with all that it prints
        from unet_keras.training.planning import check_config

        check_config(config)
        if not (arguments.find_lr or arguments.preview) and _is_finished(config):
            logger.info("%s is finished", config.train.run_dir)
            return
        if not names_source(path, overrides):
            refuse_replacing(config)
        logger.info("no records at %s yet: converting first", config.records.path)
        convert(config)
    import_tensorflow()
    if arguments.preview:
        from unet_keras.training.data import draw_preview

        logger.info("look at it:  %s", draw_preview(config, arguments.preview))
        return
    from unet_keras.training.fit import find_learning_rate, train

    if arguments.find_lr:
        rate, picture = find_learning_rate(config)
        logger.info("suggestion:  train.phases.0.learning_rate=%.1e", rate)
        logger.info("look at it:  %s", picture)
        return
    folder = train(config)
    logger.info("model:       %s", folder / "model.keras")
    logger.info("watch:       tensorboard --logdir %s", folder)
    logger.info("score it:    python -m unet_keras.evaluate %s", folder)


def _is_finished(config: "Config") -> bool:
    if not Path(config.train.run_dir).exists():  # it takes seconds to find out
        return False
    from unet_keras.training.fit import is_finished

    return is_finished(config)


if __name__ == "__main__":
    main()
