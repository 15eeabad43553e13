"""What every section checks its fields with."""

from unet_keras.errors import InputError

Pair = tuple[int, int]


def demand(condition: bool, message: str) -> None:
    """Raise `InputError` with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def demand_positive(value: float, name: str) -> None:
    """Raise `InputError` unless the value is above 0."""
    demand(value > 0, f"{name}={value} must be above 0")
