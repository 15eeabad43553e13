"""What scores belong to, so that a network is handed on with its own and no others.

    metrics.json   `scored`, the state below: what was evaluated, and how
    metadata.json  of an export: `model_digest`, `test_digest` and rules, which its scores must have

    state   model, records    SHA-256 of the network's file and of the images' source, hexadecimal
            split, tta, ensemble, separate, and `RULES`

Scores are passed on where all of it agrees but tta, which is told beside them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_keras.errors import InputError
from unet_keras.pipeline.kinds import Kind, parts_touching
from unet_keras.records.manifest import Manifest
from unet_keras.records.shard_files import sha256_of
from unet_keras.settings import Evaluate

RULES = (
    "threshold", "minimum_area", "method", "seed_prominence", "seed_smoothing", "grow_pixels",
)  # fmt: skip


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file, hexadecimal; None where there is none."""
    return sha256_of(path) if path.is_file() else None


def network_digest(path: Path) -> str:
    """SHA-256 of the network in a run folder or `.keras` file, or of a SavedModel's files."""
    file = path / "model.keras" if path.is_dir() else path
    if file.is_file():
        return sha256_of(file)
    files = [*path.glob("*.pb"), *path.glob("variables/*")]
    sums = [f"{one.name} {sha256_of(one)}" for one in sorted(files)]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def scored_state(
    settings: Evaluate, *, model: Path, manifest: Manifest, kind: Kind
) -> dict[str, Any]:
    """The state of an evaluation, for its `metrics.json`.

    Args:
        settings: What is scored, and how.
        model: The network's file.
        manifest: Of the records that are scored.
        kind: What the network learned.

    Returns:
        For JSON.
    """
    return {
        "model": file_digest(model),
        "records": manifest.splits[settings.split].source_digest,
        "split": settings.split,
        "tta": settings.tta,
        "ensemble": list(settings.ensemble),
        "separate": parts_touching(manifest, kind),
        **{rule: getattr(settings, rule) for rule in RULES},
    }


def exported_state(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The state that scores of an exported network must have.

    Args:
        metadata: Of the export; what an older one does not say is None.

    Returns:
        Of the test split, by a single network. Whether over flipped images too (`tta`) is told
        beside the scores: the same network does so where time allows.
    """
    return {
        "model": metadata.get("model_digest"),
        "records": metadata.get("test_digest"),
        "split": "test",
        "ensemble": [],
        "separate": metadata.get("separate"),
        **{rule: metadata.get(rule) for rule in RULES},
    }


def unlike(evaluated: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[str]:
    """In what an evaluation differs from an exported network.

    Args:
        evaluated: `metrics.json`, read; one of an earlier version differs in everything.
        metadata: Of the export.

    Returns:
        Names of the state's parts; none where its scores are the network's.
    """
    scored = evaluated.get("scored", {})
    wanted = exported_state(metadata)
    return [name for name, value in wanted.items() if name not in scored or scored[name] != value]


def final_scores(results: Mapping[str, Any]) -> dict[str, float]:
    """The scores of all images together, by name.

    Args:
        results: From `Evaluation.results`, or its `metrics.json`, read.

    Returns:
        Numbers only; with membranes, their scores at the threshold in use.
    """
    scores = dict(results["overall"])
    if results.get("membranes") is not None:
        scores |= results["membranes"]["at_threshold"]
    return {name: value for name, value in scores.items() if value is not None}


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """Read the `metrics.json` of a run.

    Args:
        file: It.

    Returns:
        What it holds, `overall` and perhaps `scored` among it; None where there is no file.

    Raises:
        InputError: It is damaged.
    """
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found["overall"], dict) and isinstance(found.get("scored", {}), dict):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f"{file} is damaged: remove it, or evaluate again: python -m unet_keras.evaluate "
        f"{file.parent.parent}"
    )
