"""Opening what predicts: a run folder, a `.keras` file or a SavedModel."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from unet_keras import config as configuration
from unet_keras.config import Config
from unet_keras.errors import InputError
from unet_keras.inference.cells import Ranges
from unet_keras.inference.grey_values import TrainedOn
from unet_keras.inference.outlines import as_cells
from unet_keras.inference.scored import file_digest, final_scores, read_evaluation, unlike
from unet_keras.inference.serving import load_saved_model
from unet_keras.inference.tiling import predict_tiled
from unet_keras.model.geometry import map_channels
from unet_keras.model.pretrained import resolve
from unet_keras.model.saved import load_model
from unet_keras.pipeline.kinds import class_names, num_outputs, parts_touching
from unet_keras.records.manifest import MANIFEST_NAME, Manifest, read_manifest
from unet_keras.records.parts import state_of

# Of the network that ships, beside its `model.keras`.
PACKED = "metadata.json"
# In a run folder, as `unet_keras.evaluate` leaves it.
EVALUATION = "evaluation/metrics.json"


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        folder: Where it is.
        config: Its resolved config.
        model: Its best network.
    """

    folder: Path
    config: Config
    model: keras.Model


def open_run(folder: Path, overrides: Sequence[str] = ()) -> Run:
    """Open a run folder; `key.path=value` overrides replace values of its config.

    Raises:
        InputError: There is no such folder, no run in it, or no trained model yet.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such run folder; python -m unet_keras.train makes one"
        )
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder} is no run folder: it has no config.yaml, which training writes")
    return Run(
        folder,
        configuration.load(folder / "config.yaml", overrides),
        load_model(folder / "model.keras"),
    )


@dataclass(frozen=True)
class Predictor:
    """What predicts, whatever it was opened from; call it with an image.

    Attributes:
        path: What was opened: a run folder, a `.keras` file or a SavedModel.
        channels: C, of the images it takes.
        image_dtype: Of the images it takes, as in training; None takes any: where a `.keras` file
            does not say, or where they are normalized.
        metadata: What a SavedModel's `metadata.json` says; of a run folder the same, as far as it
            is known without exporting; empty for a `.keras` file.
        maps: T, how many regression maps follow the classes in what the network says.
        network: What predicts; None of a SavedModel.
        normalized_to: What grey values are matched to before; None leaves them.
    """

    path: Path
    channels: int
    image_dtype: np.dtype | None
    metadata: dict[str, Any] = field(repr=False)
    _predict: Callable[[np.ndarray, int | None], np.ndarray] = field(repr=False)
    maps: int = 0
    _tile: int | None = field(repr=False, default=None)
    network: keras.Model | None = field(repr=False, default=None)
    normalized_to: TrainedOn | None = None

    @property
    def ranges(self) -> Ranges | None:
        """Lowest and highest of the training images' figures, by name, that an image may leave.

        None where they are not known. Normalized images cannot leave those of grey values.
        """
        known = self.metadata.get("ranges") or {}
        kept = ("cell_area",) if self.normalized_to is not None else known
        return {name: known[name] for name in kept if name in known} or None

    def __call__(self, image: np.ndarray, *, tile: int | None = None) -> np.ndarray:
        """Predict an image.

        Args:
            image: (H, W) or (H, W, C), raw grey values.
            tile: Side of the tiles in pixels; None takes what the predictor was opened with.

        Returns:
            Float32 (H, W, K), probabilities; (H, W, 1), of cells, where outlines or a distance map
            were learned.

        Raises:
            InputError: Another shape, number of channels or range of values.
        """
        learned = self.metadata.get("learned", "cells")
        return as_cells(self.planes(image, tile=tile), learned, self.maps)

    def planes(self, image: np.ndarray, *, tile: int | None = None) -> np.ndarray:
        """Predict what the network itself says: K probabilities and T maps, float32 (H, W, K+T).

        Args and Raises are those of a call.
        """
        if self.normalized_to is not None:
            image = self.normalized_to.match(image)
        return self._predict(image, tile or self._tile)


def place_of(model: Path | str) -> Path:
    """Return where a model lies together with what is known of it.

    Args:
        model: What a user gave: a path, or `default`.

    Returns:
        The folder where it is the `model.keras` of a finished run, or that of the network that
        ships; else the path as given.
    """
    path = resolve(model)
    folder = path.parent
    of_run = (folder / "config.yaml").exists() and (folder / MANIFEST_NAME).exists()
    known = of_run or (folder / PACKED).exists()
    return folder if path.name == "model.keras" and path.is_file() and known else path


def open_predictor(
    path: Path,
    *,
    tile: int | None = None,
    halo: int | None = None,
    blend: int = 0,
    overrides: Sequence[str] = (),
    normalize: bool | None = None,
) -> Predictor:
    """Open what predicts images.

    Args:
        path: A run folder, a `.keras` file, a SavedModel, or `default` for the network that ships.
            The `model.keras` of a run stands for the run.
        tile: Side of the tiles in pixels; None leaves it to `predict_tiled`, and lets a SavedModel
            predict whole images.
        halo: As for `predict_tiled`, in pixels; a SavedModel has all it can see.
        blend: Likewise.
        overrides: What was tuned for a run folder (`evaluation.tuning.tuned_overrides`); its
            metadata state it.
        normalize: Whether each image's grey values are matched to the training's mean and
            deviation; None as the model's metadata say (`normalize_images`), else not.

    Returns:
        A function from an image (H, W) or (H, W, C) to probabilities float32 (H, W, K).

    Raises:
        InputError: The path is none of these, a SavedModel shall have a halo or blend, or nothing
            says what the several classes of a network are, or what grey values it learned from.
    """
    predictor = _open(place_of(path), tile, halo, blend, overrides)
    if not (predictor.metadata.get("normalize_images") if normalize is None else normalize):
        return predictor
    trained_on = TrainedOn.of(predictor.metadata, predictor.path)
    return replace(predictor, normalized_to=trained_on, image_dtype=None)


def _open(
    path: Path, tile: int | None, halo: int | None, blend: int, overrides: Sequence[str]
) -> Predictor:
    if (path / "saved_model.pb").exists():
        if halo is not None or blend:
            raise InputError(
                f"{path} is a SavedModel, whose tiles see all that they need: leave halo and blend "
                "out, or predict with the run folder"
            )
        served = load_saved_model(path)

        def predict_served(image: np.ndarray, tile: int | None) -> np.ndarray:
            return served(image, tile=tile)

        return Predictor(
            path,
            served.channels,
            served.image_dtype,
            served.metadata,
            predict_served,
            served.maps,
            tile,
        )
    metadata: dict[str, Any] = {}
    if (path / PACKED).exists():
        model = load_model(path / "model.keras")
        metadata = json.loads((path / PACKED).read_text(encoding="utf-8"))
    elif path.is_dir():
        opened = open_run(path, overrides)
        model = opened.model
        if (path / MANIFEST_NAME).exists():
            metadata = describe_run(opened)
    elif path.suffix == ".keras" or not path.exists():
        model = load_model(path)
    else:
        raise InputError(f"{path} is no model: give a run folder, a .keras file or a SavedModel")
    if not metadata:
        _demand_plain(model, path)
    image_dtype = np.dtype(metadata["image_dtype"]) if metadata else None

    def predict(image: np.ndarray, tile: int | None) -> np.ndarray:
        return predict_tiled(model, image, tile=tile, halo=halo, blend=blend, fixed=True)

    channels, maps = model.input_shape[-1], map_channels(model)
    return Predictor(path, channels, image_dtype, metadata, predict, maps, tile, model)


def _demand_plain(model: keras.Model, path: Path) -> None:
    """Refuse a network whose classes may be cell types, or inside and outline of cells.

    Raises:
        InputError: It tells more than cell and background apart.
    """
    classes = model.output_shape[-1] - map_channels(model)
    if classes > 2:
        raise InputError(
            f"{path} has {classes} classes, and nothing beside it says whether they are types of "
            "cells or parts of them: give the run folder with its config.yaml and manifest.json, "
            "or the saved_model that was exported from it"
        )


def describe_run(run: Run) -> dict[str, Any]:
    """Tell what is to be known of a trained network: the content of `metadata.json`.

    Args:
        run: Opened with the overrides that were tuned for it.

    Returns:
        Classes, what was learned of them (`targets.kind`), the planes of the probabilities that the
        network gives, normalization, type and channels of the
        images, how probabilities become instances, pixel size in micrometres (None where it is not
        known), what it was trained on and under which license, the lowest and highest grey values
        and areas seen there, versions, digests of the network and of the test images, scores of
        the last evaluation (None without one, or where it was of another network, other images
        than the run's test split, or other rules: `stale_scores`), and whether they are means
        over flipped images (`scores_tta`). For JSON.

    Raises:
        InputError: The run's manifest is absent or damaged.
    """
    # The run's own copy: records may have moved since.
    manifest = read_manifest(run.folder)
    source, settings, trained = run.config.source, run.config.evaluate, manifest.splits["train"]
    learned = run.config.targets.kind
    by_class = learned == "cells" and not run.config.loss.maps  # else a map of cells is made
    classes = class_names(manifest, "cells") if by_class else ("background", "cell")
    metadata: dict[str, Any] = {
        "classes": list(classes),
        "learned": learned,
        "planes": _planes(run.config, manifest),
        "image_dtype": manifest.image_dtype,
        "channels": manifest.channels,
        "normalization": {"mean": manifest.mean, "scale": manifest.scale},
        "threshold": settings.threshold,
        "minimum_area": settings.minimum_area,
        "method": settings.method,
        "seed_prominence": settings.seed_prominence,
        "seed_smoothing": settings.seed_smoothing,
        "grow_pixels": settings.grow_pixels,
        "separate": parts_touching(manifest, learned),
        "pixel_size": manifest.pixel_size or source.pixel_size or None,
        "group_pattern": source.group_pattern,
        "ranges": manifest.ranges,
        "training_data": {
            "kind": source.kind,
            "license": source.license or None,
            "images": trained.images,
            "instances": trained.instances,
            "groups": {name: group.images for name, group in sorted(trained.groups.items())},
            "source_digest": trained.source_digest,
        },
        "versions": state_of(run.folder / "versions.json"),
        "model_digest": file_digest(run.folder / "model.keras"),
        "test_digest": manifest.splits["test"].source_digest,
    }
    return {**metadata, **_own_scores(run.folder, metadata)}


def _planes(config: Config, manifest: Manifest) -> list[str]:
    """What each plane of a network's probabilities is of."""
    kind = config.targets.kind
    names = class_names(manifest, kind)
    background_too = num_outputs(manifest, kind, config.model.output) == len(names)
    return list(names if background_too else names[1:])


def stale_scores(folder: Path, metadata: Mapping[str, Any]) -> str | None:
    """Tell why a run's last scores are not those of what is exported of it.

    Args:
        folder: Of the run.
        metadata: From `describe_run`.

    Returns:
        A sentence that says what to do; None where there are no scores, or they are.

    Raises:
        InputError: The run's `evaluation/metrics.json` is damaged.
    """
    file = folder / EVALUATION
    evaluated = read_evaluation(file)
    differing = unlike(evaluated, metadata) if evaluated is not None else []
    if not differing:
        return None
    if evaluated is not None and "split" in differing:
        return (
            f"scores are left out: {file} is of split {evaluated.get('scored', {}).get('split')}, "
            "and those of test images alone are exported; where the records have some: python -m "
            f"unet_keras.evaluate {folder} evaluate.split=test"
        )
    return (
        f"scores are left out: {file} differs from what is exported in {', '.join(differing)}; "
        f"evaluate again: python -m unet_keras.evaluate {folder}"
    )


def _own_scores(folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of the last evaluation, if it was of this network used like this."""
    try:
        evaluated = read_evaluation(folder / EVALUATION)
    except InputError:  # predicting needs none; `stale_scores` tells of it to who exports
        evaluated = None
    if evaluated is None or unlike(evaluated, metadata):
        return {"scores": None, "scores_tta": None}
    return {"scores": final_scores(evaluated), "scores_tta": evaluated["scored"]["tta"]}
