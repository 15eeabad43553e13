"""StarDist (Schmidt et al. 2018) on Keras 3, as its example notebook trains it.

    defaults  its own rate, 3e-4, all the time: meant for 40,000 steps
    short     1e-3, falling to the end of the time, as a user who has minutes would

Its thresholds are chosen on the training images; a held-out one would be missed among seven.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from csbdeep.utils import normalize
from exchange import Budget, finish, parse, read_training
from stardist.models import Config2D, StarDist2D

RATES = {"defaults": 3e-4, "short": 1e-3}


class WithinBudget(keras.callbacks.Callback):
    """Ends training when the time is up; `short` gives each step its rate."""

    def __init__(self, budget: Budget, variant: str) -> None:
        super().__init__()
        self.budget = budget
        self.variant = variant

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the rate, if it falls."""
        if self.variant == "short":
            self.model.optimizer.learning_rate = RATES["short"] * self.budget.rate()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count the step, and end when the time is up."""
        if self.budget.step():
            self.model.stop_training = True


def augmented(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The notebook's: flips and right angles, other intensity, noise; (H, W) twice."""
    turns, flip = np.random.randint(4), np.random.randint(2)
    x, y = (np.rot90(array, turns) for array in (x, y))
    if flip:
        x, y = x[::-1], y[::-1]
    x = x * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return x + 0.02 * np.random.uniform(0, 1) * np.random.normal(size=x.shape), y


def scaled(image: np.ndarray) -> np.ndarray:
    """Grey values, the 1st percentile 0 and the 99.8th 1."""
    return normalize(image, 1, 99.8)


def main() -> None:
    """Train, then segment the test images."""
    arguments = parse(tuple(RATES))
    keras.utils.set_random_seed(arguments.seed)
    images, truths = read_training(arguments.folder)
    inputs = [scaled(image) for image in images]
    config = Config2D(
        n_rays=32, grid=(2, 2), n_channel_in=1, train_patch_size=(256, 256), train_batch_size=4,
        train_learning_rate=RATES[arguments.variant], train_tensorboard=False,
        # It would look at a validation loss, in epochs that are not reached.
        train_reduce_lr=None,
    )  # fmt: skip
    model = StarDist2D(config, name="stars", basedir=None)
    model.prepare_for_training()
    budget = Budget(arguments.cpu_seconds)
    model.callbacks.append(WithinBudget(budget, arguments.variant))
    model.train(
        inputs, truths, validation_data=(inputs[-1:], truths[-1:]), augmenter=augmented,
        seed=arguments.seed, epochs=1, steps_per_epoch=10**6,
    )  # fmt: skip
    account = budget.account()
    model.optimize_thresholds(inputs, truths, optimize_kwargs={"verbose": 0})

    def segment(image: np.ndarray) -> np.ndarray:
        return model.predict_instances(scaled(image))[0]

    finish(arguments.folder, arguments.output, segment, account)


if __name__ == "__main__":
    main()
