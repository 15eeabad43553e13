"""What `load_dataset` is asked for, checked before anything is read."""

import math
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import get_args

import numpy as np

from unet_keras.errors import InputError
from unet_keras.pipeline.kinds import Kind, class_names
from unet_keras.pipeline.packing import Weights
from unet_keras.records.manifest import Manifest
from unet_keras.settings.checks import demand, demand_names


def two_sides(crop: Sequence[int]) -> tuple[int, int]:
    """Return height and width, which are whole numbers above 0."""
    sides = tuple(crop) if isinstance(crop, Sequence | np.ndarray) else ()
    whole = [int(side) for side in sides if isinstance(side, Integral) and side > 0]
    demand(len(whole) == len(sides) == 2, f"crop={crop!r} must be height and width, above 0")
    return whole[0], whole[1]


def check_choices(weights: str, kind: str, regression_maps: Sequence[str]) -> None:
    """Refuse words that are none of the choices, and maps where nothing carries them."""
    for name, value, allowed in (("weights", weights, Weights), ("kind", kind, Kind)):
        choices = get_args(allowed)
        demand(value in choices, f"{name}={value!r} must be one of {', '.join(choices)}")
    demand_names(regression_maps, "regression_maps")
    demand(
        weights == "packed" or not regression_maps,
        f"regression_maps={list(regression_maps)} are carried by weights='packed' alone, and "
        f"weights={weights!r} was given",
    )


def check_amounts(**named: tuple[float, int]) -> None:
    """Refuse numbers, each given with its least value, that are below it or not finite."""
    for name, (value, least) in named.items():
        demand(least <= value < math.inf, f"{name}={value} must be at least {least} and finite")


def check_records(
    manifest: Manifest,
    path: Path | str,
    split: str,
    crop: tuple[int, int],
    margin: int,
    kind: Kind,
    class_weights: Sequence[float],
    border_weight: float,
    regression_maps: Sequence[str],
) -> None:
    """Refuse what these records do not have, and a crop of which the network leaves nothing."""
    if split not in manifest.splits or not manifest.splits[split].images:
        available = [name for name, part in manifest.splits.items() if part.images]
        raise InputError(f"{path} has no images in split {split!r}; it has {available}")
    wanted = {*regression_maps, *(("border",) if border_weight > 0 else ())}
    if not wanted <= set(manifest.maps):
        raise InputError(
            f"{path} has the maps {list(manifest.maps)}, but {sorted(wanted)} are asked for: "
            "convert again with records.maps naming them"
        )
    demand(
        "border" not in regression_maps,
        f"regression_maps={list(regression_maps)} has border, which weighs the loss: give distance",
    )
    names = class_names(manifest, kind)
    if class_weights and len(class_weights) != len(names):
        raise InputError(
            f"loss.class_weights={list(class_weights)} must have {len(names)} numbers, for "
            f"{', '.join(names)} of {path}"
        )
    if min(crop) <= 2 * margin:
        raise InputError(
            f"pipeline.crop={crop} must be larger than {2 * margin}, because the network loses "
            f"{margin} pixels on each side"
        )
