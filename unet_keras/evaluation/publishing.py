"""Where scores go besides the report: TensorBoard, and the SavedModel that was exported before.

    RUN/tensorboard/evaluation-SPLIT     the scores of this evaluation, as scalars; the HParams tab
                                         shows those of the test split beside the run
    RUN/saved_model/metadata.json        key `scores`, what `unet_keras.export` writes there too

Scores are those of all images together; those that do not exist are left out.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from unet_keras.errors import InputError
from unet_keras.evaluation.files import unwritable, write_text
from unet_keras.inference.scored import final_scores, unlike

logger = logging.getLogger(__name__)


def write_tensorboard(
    folder: Path,
    results: Mapping[str, Any],
    *,
    split: str,
    step: int = 0,
) -> Path:
    """Write the overall scores of an evaluation for TensorBoard.

    Args:
        folder: Of TensorBoard's files of the run.
        results: From `Evaluation.results`.
        split: What was evaluated.
        step: Where the scores lie on the horizontal axis: the epochs the network was trained for.

    Returns:
        The folder written; what an earlier evaluation of the split left there is gone.

    Raises:
        InputError: It cannot be written.
    """
    target = folder / f"evaluation-{split}"
    shutil.rmtree(target, ignore_errors=True)
    try:
        writer = tf.summary.create_file_writer(str(target))
        with writer.as_default():
            for name, value in final_scores(results).items():
                tf.summary.scalar(f"{split}/{name}", float(value), step)
        writer.close()
    except (tf.errors.OpError, OSError) as error:
        raise unwritable(target, error) from None
    return target


def update_metadata(saved_model: Path, results: Mapping[str, Any]) -> bool:
    """Put the final scores into the metadata of a SavedModel that is there, if they are its own.

    Args:
        saved_model: Its folder.
        results: From `Evaluation.results`, with the state that was scored under `scored`.

    Returns:
        Whether they were put there. Scores of another network, of other rules or of other images
        than it was exported with are not, and a message says so.

    Raises:
        InputError: Its metadata are damaged, or cannot be written.
    """
    file = saved_model / "metadata.json"
    if not file.is_file():
        return False
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
        differing = unlike(results, metadata)
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            f"{file} is damaged; export again: python -m unet_keras.export {saved_model.parent}"
        ) from None
    if differing:
        logger.info(
            "%s keeps the scores it has: this evaluation differs from it in %s; export again for "
            "what changed in the run, and evaluate again",
            saved_model,
            ", ".join(differing),
        )
        return False
    metadata["scores"] = final_scores(results)
    metadata["scores_tta"] = results["scored"]["tta"]
    write_text(file, json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    return True
