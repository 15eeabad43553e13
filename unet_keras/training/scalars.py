"""What TensorBoard shows of a run: its config, and as curves each epoch's figures and rates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from unet_keras.training.board import Board, tag_of
from unet_keras.training.speed import Speed
from unet_keras.training.state import RunState

Logs = dict[str, float] | None

# Their last points are what model.keras, the best epoch's network, scores.
BEST = {"best/dice": "Dice", "best/iou": "IoU", "best/loss": "loss"}
# What `evaluate` adds.
TESTED = {"test/dice": "test Dice", "test/segmentation_accuracy": "test SA"}

# Sections that decide what a run learns; where its images come from is in the config's text.
HYPERPARAMETERS = ("targets", "pipeline", "augment", "model", "loss", "train")


def describe_run(board: Board, values: Mapping[str, Any], run: Path) -> None:
    """Show the resolved config on TensorBoard, as text and as hyperparameters.

    Args:
        board: The run's TensorBoard.
        values: The config's sections and values by name.
        run: The run's folder, which has it as text.
    """
    saved = (run / "config.yaml").read_text(encoding="utf-8")
    board.text("config", f"```yaml\n{saved}\n```")
    chosen = {name: values[name] for name in HYPERPARAMETERS} | {"seed": values["seed"]}
    chosen["train"] = {name: one for name, one in chosen["train"].items() if name != "run_dir"}
    board.hyperparameters(chosen, {"validation": BEST, "evaluation-test": TESTED})
    board.flush()


class Scalars(keras.callbacks.Callback):
    """Adds a point to each curve after an epoch; comes after the state was moved on.

    Args:
        board: The run's TensorBoard.
        state: Where the run is.
        speed: Measures the epochs.
    """

    def __init__(self, board: Board, state: RunState, speed: Speed) -> None:
        super().__init__()
        self.board = board
        self.state = state
        self.speed = speed

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the epoch's points."""
        done = self.state.epoch
        for name, value in (logs or {}).items():
            side = "validation" if name.startswith("val_") else "train"
            self.board.scalar(side, tag_of(name.removeprefix("val_")), value, done)
        rate = self.state.history[-1]["learning_rate"]
        self.board.scalar("train", "schedule/learning_rate", rate, done)
        if isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            scale = keras.ops.convert_to_numpy(self.model.optimizer.dynamic_scale)
            self.board.scalar("train", "schedule/loss_scale", scale, done)
        for name, value in self.speed.figures.items():
            self.board.scalar("train", f"speed/{name}", value, done)
        best = self.state.history[self.state.best_epoch - 1]
        for tag in BEST:
            name = tag.replace("best/", "val_")
            if name in best:
                self.board.scalar("validation", tag, best[name], done)
        self.board.flush()
