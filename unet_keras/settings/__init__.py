"""The sections of an experiment's configuration: frozen dataclasses, correct from birth.

Each field states its meaning in the class's docstring; each class checks its own fields and raises
`InputError`. What fields of several sections demand of each other is checked in `config.Config`.
"""

from unet_keras.settings.augment import Augmentation
from unet_keras.settings.checks import demand
from unet_keras.settings.data import Records, Source, Targets
from unet_keras.settings.evaluate import Evaluate
from unet_keras.settings.model import Loss, Model
from unet_keras.settings.optimizer import Optimizer
from unet_keras.settings.pipeline import Pipeline
from unet_keras.settings.train import Phase, Train

__all__ = [
    "Augmentation",
    "Evaluate",
    "Loss",
    "Model",
    "Optimizer",
    "Phase",
    "Pipeline",
    "Records",
    "Source",
    "Targets",
    "Train",
    "demand",
]
