"""This project's U-Net, and the same network without skip connections, trained alike.

unet       the network of configs/livecell_sample.yaml, from random weights
unet_more  likewise, from the network that ships, which knows synthetic cells
no_skips   fully convolutional: down and up again, as deep and as wide, nothing copied across
"""

import keras
import numpy as np
from claim_tables import LIVECELL, OUTLINES, TRANSFORMED
from exchange import Budget, finish, parse
from trials import ROOT

from unet_keras import config as configuration
from unet_keras.inference.instances import InstanceRules, foreground_of
from unet_keras.inference.outlines import as_cells
from unet_keras.inference.tiling import predict_tiled
from unet_keras.records.manifest import read_manifest
from unet_keras.training.computation import compile_model
from unet_keras.training.data import training_data
from unet_keras.training.fit import build_network, set_up_computation, start_weights
from unet_keras.training.optimizers import build_optimizer
from unet_keras.training.planning import plan

RATE = 2e-3
# As in claim_tables.py; outlines belong to the cells, so nothing has to grow back.
RULES = InstanceRules(method="watershed", seed_smoothing=3.0, seed_prominence=0.1, grow_pixels=0)


class FromBelow(keras.layers.Layer):
    """Takes the place of a concatenation and passes on what comes from the level below alone."""

    def call(self, maps: list) -> object:
        return maps[1]

    def compute_output_shape(self, shapes: list) -> tuple:
        return shapes[1]


class WithinBudget(keras.callbacks.Callback):
    """Gives each step its rate, and ends training when the time is up."""

    def __init__(self, budget: Budget, rate: float) -> None:
        super().__init__()
        self.budget = budget
        self.rate = rate

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the rate."""
        self.model.optimizer.learning_rate = self.rate * self.budget.rate()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count the step, and end when the time is up."""
        if self.budget.step():
            self.model.stop_training = True


def without_skips(model: keras.Model) -> keras.Model:
    """The same layers, but nothing is copied from the contracting path to the expanding one."""

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.Concatenate):
            return FromBelow(name=layer.name)
        return type(layer).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=replaced)


def main() -> None:
    """Train, then segment the test images."""
    arguments = parse(("unet", "unet_more", "no_skips"))
    folder = arguments.folder
    start = "default" if arguments.variant == "unet_more" else "''"
    config = configuration.load(
        ROOT / LIVECELL,
        [*OUTLINES, *TRANSFORMED, f"records.path={folder}/records", f"seed={arguments.seed}",
         "train.precision=auto", "train.deterministic=false", f"train.start_from={start}"],
    )  # fmt: skip
    set_up_computation(config)
    model = build_network(config, read_manifest(folder / "records"))
    start_weights(model, config)
    if arguments.variant == "no_skips":
        model = without_skips(model)
    stretch = plan(config, 100)[0]  # of its length nothing depends
    compile_model(model, build_optimizer(RATE, average=config.train.optimizer.average), stretch)
    budget = Budget(arguments.cpu_seconds)
    # One endless epoch: the means of the weights take their place at its end.
    model.fit(
        training_data(config, stretch, start_step=0, margin=0), steps_per_epoch=10**9, epochs=1,
        shuffle=False, verbose=0, callbacks=[WithinBudget(budget, RATE)],
    )  # fmt: skip
    account = budget.account()

    def segment(image: np.ndarray) -> np.ndarray:
        predicted = predict_tiled(model, image, fixed=True)
        return RULES.label(foreground_of(as_cells(predicted, config.targets.kind)))

    finish(folder, arguments.output, segment, account)


if __name__ == "__main__":
    main()
