"""What every section checks its fields with."""

import math
import re
from typing import Any

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


def class_weight_numbers(weights: Any, *, otherwise: str = ", or balanced") -> list[float]:
    """Return the weights of classes as numbers.

    Args:
        weights: One for each class; empty for 1 everywhere.
        otherwise: What else the message may offer.

    Raises:
        InputError: One is no number, or below 0 or not finite, or all are 0.
    """
    try:
        numbers = [-1.0] if isinstance(weights, str) else [float(weight) for weight in weights]
    except (TypeError, ValueError):
        numbers = [-1.0]
    demand(
        all(0 <= number < math.inf for number in numbers),
        f"loss.class_weights={weights} must be numbers of at least 0, such as [2, 1]{otherwise}",
    )
    demand(
        not numbers or max(numbers) > 0,
        f"loss.class_weights={weights} leave every pixel out: one of them must be above 0",
    )
    return numbers


def demand_names(names: Any, name: str) -> None:
    """Raise `InputError` for a text where a list of texts belongs, which would be its letters."""
    demand(not isinstance(names, str), f"{name}={names!r} must be a list of names: [{names!r}]")


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8, which a record needs; files may have any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def demand_pattern(pattern: str, name: str) -> None:
    """Refuse a pattern from which no group can be read.

    Args:
        pattern: Regular expression on a file name, whose first group is the image's group.
        name: What the message calls it, with what stands before its value.

    Raises:
        InputError: It is no regular expression, or has no group.
    """
    try:
        groups = re.compile(pattern).groups
    except (re.error, TypeError) as error:
        raise InputError(f"{name}{pattern!r} is no regular expression: {error}") from None
    if groups < 1:
        raise InputError(
            f"{name}{pattern!r} must have a group in parentheses: what it matches is the cell type"
        )
