"""Command: write a trained network as a SavedModel that needs nothing but TensorFlow, or as ONNX.

`python -m unet_keras.export RUN_DIR`
"""

import argparse
import logging
from pathlib import Path

from unet_keras.command import import_tensorflow, run

logger = logging.getLogger(__name__)


def main() -> None:
    """Parse the arguments and export."""
    parser = argparse.ArgumentParser(
        prog="python -m unet_keras.export",
        description="Write RUN_DIR/saved_model: images of the training's type and any size in, "
        "probabilities out, a plane of each class the network knows (metadata.json names them); "
        "or RUN_DIR/onnx or RUN_DIR/openvino: float32 images in, compared with Keras first.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a finished training")
    parser.add_argument(
        "--format",
        choices=("saved_model", "onnx", "openvino"),
        default="saved_model",
        help="what to write (saved_model)",
    )
    run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    import_tensorflow()
    from unet_keras.evaluation.files import demand_writable
    from unet_keras.evaluation.tuning import tuned_overrides
    from unet_keras.inference.exchange import demand_packages, export_exchange
    from unet_keras.inference.loading import describe_run, open_run, stale_scores
    from unet_keras.inference.serving import export_saved_model

    if arguments.format != "saved_model":
        demand_packages(arguments.format)
    folder = Path(arguments.run_dir)
    opened = open_run(folder, tuned_overrides(folder))
    demand_writable(folder)
    metadata = describe_run(opened)
    if stale := stale_scores(folder, metadata):
        logger.warning(stale)
    directory = opened.folder / arguments.format
    if arguments.format == "saved_model":
        export_saved_model(
            opened.model, directory, metadata=metadata, image_dtype=metadata["image_dtype"]
        )
        logger.info("saved model: %s", directory)
        return
    difference = export_exchange(opened.model, directory, arguments.format, metadata=metadata)
    logger.info("%s: %s", arguments.format, directory)
    logger.info("largest difference of a probability from Keras: %.2g", difference)


if __name__ == "__main__":
    main()
