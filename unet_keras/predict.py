"""Command: segment images with a trained network.

`python -m unet_keras.predict MODEL IMAGES... --output DIR`
"""

import argparse
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_keras.command import import_tensorflow, run
from unet_keras.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from unet_keras.inference.averaging import Prediction
    from unet_keras.inference.instances import InstanceRules
    from unet_keras.inference.journal import Finished
    from unet_keras.inference.loading import Predictor
    from unet_keras.inference.pictures import Picture
    from unet_keras.inference.segmenting import Segmenter

logger = logging.getLogger(__name__)

# From here on a SavedModel predicts by tiles of this side, unless another is given.
SAVED_MODEL_PIXELS = 2**22
SAVED_MODEL_TILE = 1024


def main() -> None:
    """Parse the arguments and predict."""
    parser = argparse.ArgumentParser(
        prog="python -m unet_keras.predict",
        description="Segment images. What is tuned with a run (threshold, smallest area, ...) is "
        "used unless another value is given here; averaging over flips and networks is not: --tta, "
        "--ensemble. An image that cannot be read is reported and "
        "left out; the exit status is 1 then. Once stopped, the same command goes on where it was.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="run folder, .keras file, SavedModel, or default: a network that ships, "
        "trained on synthetic phase-contrast cells",
    )
    parser.add_argument(
        "images", metavar="IMAGES", nargs="+",
        help="files, folders, patterns; TIFF (all pages), PNG, JPEG; 8 or 16 bit, grey or RGB",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="where results are written: a folder of its own, not that of the images",
    )
    parser.add_argument(
        "--write", metavar="LIST", default="probability,mask,labels,overlay,csv",
        help="what, separated by commas: probability (TIFF), mask (PNG), labels (TIFF, a number a "
        "cell), overlay (PNG), rois (ImageJ), coco (one JSON), csv (cells, counts, and growth over "
        "time where file names tell well and time; centroids count from the center of the first "
        "pixel, where COCO, ImageJ and serve count from its corner); or all (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--channel", type=int, metavar="N",
        help="which channel of images that hold several, from 0; otherwise all pages of ImageJ and "
        "OME stacks, and the luminance of RGB",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, metavar="P", help="of a pixel's probability")
    parser.add_argument("--minimum-area", type=int, metavar="PIXELS", help="of a cell")
    parser.add_argument(
        "--pixel-size", type=float, metavar="MICROMETRES",
        help="side of a pixel of these images: they are scaled to the training's (of default 1.24)",
    )  # fmt: skip
    parser.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction,
        help="shift and scale the grey values of each image to the mean and deviation of the "
        "training's: for another microscope, another exposure, 16 bits. Done for default unless "
        "--no-normalize is given, and not for runs, which are taken to know their microscope",
    )  # fmt: skip
    _add_accuracy_options(parser)
    run(parser, _command, resumes=True)


def _add_accuracy_options(parser: argparse.ArgumentParser) -> None:
    accuracy = parser.add_argument_group("better or faster")
    accuracy.add_argument(
        "--ensemble", action="append", default=[], metavar="MODEL",
        help="a further model, whose probabilities are averaged with MODEL's; may be repeated",
    )  # fmt: skip
    accuracy.add_argument(
        "--tta", action="store_true",
        help="average all eight flips and rotations, in eight times the time",
    )  # fmt: skip
    accuracy.add_argument(
        "--tile", type=int, metavar="PIXELS", help="side of tiles; whole images where they fit"
    )
    accuracy.add_argument(
        "--halo", type=int, metavar="PIXELS",
        help="what a tile sees around it; by default all that the network can see, so that tiles "
        "give what whole images give. With 64 pixels, a network of depth 4 differed by 0.05 in "
        "probability at most, with 32 by 0.7",
    )  # fmt: skip
    accuracy.add_argument(
        "--blend", type=int, default=0, metavar="PIXELS",
        help="how far tiles fade into each other, which hides the seams of small halos",
    )  # fmt: skip


def _command(arguments: argparse.Namespace) -> int:
    _check_numbers(arguments)
    write = _chosen_outputs(arguments.write)
    pictures = _checked_pictures(arguments, write)
    import_tensorflow()
    from tqdm import tqdm

    from unet_keras.inference.results import described
    from unet_keras.inference.segmenting import segment_pictures

    paths = [Path(arguments.model), *map(Path, arguments.ensemble)]
    predictors = [_open(path, arguments) for path in paths]
    model = _model(predictors, arguments)
    output = Path(arguments.output)
    options = ("tta", "tile", "halo", "blend", "channel")
    chosen = {name: getattr(arguments, name) for name in options}
    made_with = described(predictors, model) | chosen
    parts: list[Path] = []

    def by_parts(picture: "Picture", group: str) -> "Finished":
        return _segment_large(picture, group, predictors, model, arguments, write, parts)

    with tqdm(total=len(pictures), unit="image", disable=not sys.stderr.isatty()) as bar:
        failed = segment_pictures(
            pictures, model, output,
            write=write, made_with=made_with, by_parts=by_parts, progress=bar.update,
        )  # fmt: skip
    for folder in parts:
        shutil.rmtree(folder)
    logger.info("%d images segmented into %s", len(pictures) - failed, output)
    return 1 if failed else 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse at once what would be refused for each image."""
    for name, least in (
        ("tile", 1), ("halo", 0), ("blend", 0), ("minimum_area", 0), ("channel", 0),
    ):  # fmt: skip
        value = getattr(arguments, name)
        if value is not None and not least <= value < 2**31:
            option, unit = f"--{name.replace('_', '-')}", "" if name == "channel" else " pixels"
            bound = f"at least {least}{unit}" if value < least else "below 2^31"
            raise InputError(f"{option} {value} must be {bound}")
    threshold = arguments.threshold
    # Turned so that NaN fails it.
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"--threshold {threshold} must be between 0 and 1")


def _checked_pictures(arguments: argparse.Namespace, write: frozenset[str]) -> "list[Picture]":
    """Find the pictures, and refuse models and places of results that cannot be such."""
    from unet_keras.inference.asking import demand_model, demand_order, demand_output
    from unet_keras.inference.pictures import find_pictures
    from unet_keras.inference.results import demand_kept

    demand_order(arguments.model, arguments.images)
    pictures = find_pictures(arguments.images, channel=arguments.channel)
    for model in (arguments.model, *arguments.ensemble):
        demand_model(model)
    demand_output(arguments.output, pictures)
    demand_kept(Path(arguments.output), pictures, write)
    return pictures


def _chosen_outputs(text: str) -> frozenset[str]:
    from unet_keras.inference.writing import OUTPUTS

    names = frozenset(text.split(",")) - {""}
    if not names or names - {*OUTPUTS, "all"}:
        raise InputError(
            f"--write {text} may name each of {', '.join(OUTPUTS)}, separated by commas, or all"
        )
    return frozenset(OUTPUTS) if "all" in names else names


def _open(path: Path, arguments: argparse.Namespace) -> "Predictor":
    from unet_keras.evaluation.tuning import tuned_overrides
    from unet_keras.inference.loading import open_predictor, place_of

    place = place_of(path)
    return open_predictor(
        place,
        tile=arguments.tile,
        halo=arguments.halo,
        blend=arguments.blend,
        overrides=tuned_overrides(place),
        normalize=arguments.normalize,
    )


def _model(predictors: "list[Predictor]", arguments: argparse.Namespace) -> "Segmenter":
    """Put together what predicts, and what the first model knows of its training."""
    from unet_keras.inference.averaging import over_flips, over_models
    from unet_keras.inference.ensembles import common_dtype, demand_one_target
    from unet_keras.inference.scaling import at_scale, scale_between
    from unet_keras.inference.segmenting import Segmenter

    demand_one_target(predictors)
    first = predictors[0]
    known = first.metadata
    for other in predictors[1:]:
        if other.channels != first.channels:
            raise InputError(
                f"{other.path} takes images of {other.channels} channels, {first.path} of "
                f"{first.channels}: an ensemble needs networks of one kind"
            )
        ours, theirs = (one.metadata.get("pixel_size") for one in (first, other))
        if arguments.pixel_size is not None and ours != theirs:
            raise InputError(
                f"{other.path} was trained at another pixel size ({theirs}) than {first.path} "
                f"({ours}): an ensemble needs networks of one scale"
            )
    scale = scale_between(arguments.pixel_size, known.get("pixel_size"), first.path)
    predict = over_models([_bounded(predictor, arguments.tile) for predictor in predictors])
    if arguments.tta:
        predict = over_flips(predict)
    given = {"group_pattern": known["group_pattern"]} if "group_pattern" in known else {}
    return Segmenter(
        predict=at_scale(predict, scale),
        channels=first.channels,
        image_dtype=common_dtype(predictors),
        rules=_rules(known, arguments, scale),
        classes=("cell",) if first.maps else tuple(known.get("classes", ["", "cell"])[1:]),
        scale=scale,
        pixel_size=arguments.pixel_size,
        ranges=first.ranges,
        training_images=known.get("training_data", {}).get("images", 0),
        **given,
    )


def _bounded(predictor: "Predictor", tile: int | None) -> "Prediction":
    """A SavedModel that takes large images by tiles, as networks do by themselves."""
    if predictor.network is not None:
        return predictor

    def predict(image: "np.ndarray") -> "np.ndarray":
        large = tile is None and image.shape[0] * image.shape[1] > SAVED_MODEL_PIXELS
        return predictor(image, tile=SAVED_MODEL_TILE if large else tile)

    return predict


def _rules(known: dict[str, Any], arguments: argparse.Namespace, scale: float) -> "InstanceRules":
    """How probabilities become instances: as given, else as the model says, else the defaults.

    What is given is in pixels of the images; what a model says, in those of its training.
    """
    from unet_keras.inference.instances import InstanceRules

    asked = {name: getattr(arguments, name) for name in ("threshold", "minimum_area")}
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(InstanceRules.of(known).at_scale(scale), **given)


def _segment_large(
    picture: "Picture",
    group: str,
    predictors: "list[Predictor]",
    model: "Segmenter",
    arguments: argparse.Namespace,
    write: frozenset[str],
    parts: list[Path],
) -> "Finished":
    """Segment a picture that is larger than memory; the folder of its parts joins the others."""
    from tqdm import tqdm

    from unet_keras.inference import large
    from unet_keras.inference.journal import Finished
    from unet_keras.inference.scored import network_digest
    from unet_keras.inference.tiff import TiffRegions

    predictor = predictors[0]
    several = len(predictors) > 1 or arguments.tta or arguments.blend or model.scale != 1
    learned = predictor.metadata.get("learned", "cells")
    if predictor.network is None or several or learned == "boundary":
        raise InputError(
            f"{picture.path} has more than {large.LARGEST_PIXELS:,} pixels and is predicted in "
            "parts, which needs one run folder or .keras file that has not learned boundaries "
            "alone, without --ensemble, --tta, --blend and another scale: leave these out, or cut "
            "the image"
        )
    with (
        TiffRegions(
            picture.path,
            picture.page or 0,
            channels=predictor.channels,
            dtype=predictor.image_dtype,
            sample=picture.sample,
        ) as image,
        tqdm(unit="part", leave=False, disable=not sys.stderr.isatty()) as bar,
    ):

        def show(stage: str, done: int, total: int) -> None:
            bar.set_description(f"{picture.title}: {stage}", refresh=False)
            bar.total, bar.n = total, done
            bar.refresh()

        image.demand_fitting()
        what = large.LargeImage(
            image=image,
            name=picture.name,
            title=picture.title,
            group=group,
            model=predictor.network,
            rules=model.rules,
            kind=learned,
            identity={"model": network_digest(predictor.path), "channel": picture.sample},
            tile=arguments.tile or large.TILE,
            halo=arguments.halo,
            pixel_size=model.pixel_size,
            normalized_to=predictor.normalized_to,
        )
        _, folder = large.segment_large(what, Path(arguments.output), write, progress=show)
        parts.append(folder)
        count = large.summarize(
            what, folder, ranges=model.ranges, training_images=model.training_images
        )
        return Finished(image.shape[:2], count, large.read_cells(folder), in_parts=True)


if __name__ == "__main__":
    main()
