"""Checks of what a user asks of an evaluation, before anything that takes long is imported."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from unet_keras.errors import InputError
from unet_keras.records.manifest import MANIFEST_NAME


def demand_fitting(
    arguments: argparse.Namespace, runs: Sequence[Path], overrides: Sequence[str]
) -> None:
    """Refuse what would have no effect, and what belongs to nothing.

    Args:
        arguments: Of `python -m unet_keras.evaluate`.
        runs: The folders among them.
        overrides: The `key.path=value`s among them.

    Raises:
        InputError: Names the option.
    """
    if arguments.tune_by and not arguments.tune:
        raise InputError(
            f"--tune-by {arguments.tune_by} says what --tune makes as high as possible: give "
            "--tune too"
        )
    if arguments.predictions or arguments.truth:
        if not (arguments.predictions and arguments.truth) or runs or arguments.tune:
            raise InputError(
                f"--predictions {arguments.predictions or 'DIR'} and --truth "
                f"{arguments.truth or 'DIR'} belong together, without RUN_DIR and --tune"
            )
        _demand_effect(arguments, overrides)
        return
    for option in ("output", "kind", "images", "probabilities"):
        if getattr(arguments, option):
            raise InputError(
                f"--{option} is for --predictions DIR and --truth DIR, and a run takes none: "
                "leave it out"
            )
    if len(runs) not in (1, 2):
        raise InputError(
            f"{len(runs)} folders of runs came: give one RUN_DIR to score, two to compare, or "
            "--predictions DIR and --truth DIR; python -m unet_keras.evaluate --help says more"
        )
    if len(runs) == 2 and (arguments.tune or overrides):
        given = "--tune" if arguments.tune else overrides[0]
        raise InputError(
            f"{given} is for one RUN_DIR; two are compared by the scores that they have: leave it "
            "out, or give it where each of them is evaluated"
        )


def _demand_effect(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Refuse what changes nothing where masks are scored, which are what they are.

    Raises:
        InputError: Names it, and what there is.
    """
    of_records = (Path(arguments.truth) / MANIFEST_NAME).is_file()
    known = {
        "evaluate.membranes": True,
        "evaluate.threshold": arguments.probabilities,
        "evaluate.split": of_records,
        "source.group_pattern": not of_records,
    }
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in ("evaluate", "source") and not known.get(key):
            having = ", ".join(key for key, effective in known.items() if effective)
            raise InputError(
                f"{override} changes nothing of masks that are there already: leave it out; what "
                f"can be given here is {having}"
            )
