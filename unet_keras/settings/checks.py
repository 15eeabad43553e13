"""What every section checks its fields with."""

import math

from unet_keras.errors import InputError

Pair = tuple[int, int]


def demand(condition: bool, message: str) -> None:
    """Raise `InputError` with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def demand_positive(value: float, name: str) -> None:
    """Raise `InputError` unless the value is above 0 and finite."""
    demand(value > 0, f"{name}={value} must be above 0")
    demand(value < math.inf, f"{name}={value} must be finite")


def demand_amount(value: float, name: str) -> None:
    """Raise `InputError` unless the value is at least 0 and finite."""
    demand(0 <= value < math.inf, f"{name}={value} must be at least 0 and finite")
