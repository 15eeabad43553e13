"""Which file is meant by each image of the JSON files, and which are meant several times."""

import os
from pathlib import Path

from unet_keras.errors import InputError
from unet_keras.sources.coco_index import CocoIndex, IndexedImage
from unet_keras.sources.listing import files_below


def find_images(folder: Path) -> dict[str, list[Path]]:
    """List all files of a folder, at any depth, by their names."""
    places: dict[str, list[Path]] = {}
    for path, _ in files_below(folder):
        places.setdefault(path.name, []).append(path)
    return places


def locate(
    index: CocoIndex, split: str, folder: Path, places: dict[str, list[Path]]
) -> dict[str, Path]:
    """Find each image of a split: where the JSON says, or by its name anywhere below the folder.

    Args:
        index: The JSON file of the split.
        split: One of `SPLITS`.
        folder: The folder of the images.
        places: From `find_images`.

    Returns:
        The file of each image, by its name in the JSON.

    Raises:
        InputError: An image is absent, or there are several files of its name.
    """
    home = "livecell_test_images" if split == "test" else "livecell_train_val_images"
    paths: dict[str, Path] = {}
    absent: list[IndexedImage] = []
    stated = {folder / name: Path(name) for name in index.images}
    for name, image in index.images.items():
        found = [
            path
            for path in places.get(Path(name).name, [])
            if path not in stated or _may_be_one(stated[path], Path(name))
        ]
        exact = [path for path in found if path == folder / name]
        at_home = _distinct([path for path in found if home in path.parts])
        found = _distinct(found)
        candidates = exact or (at_home if len(found) > 1 else found)
        if len(found) > 1 and len(candidates) != 1:
            raise InputError(
                f"{name} (image {image.ids[0]} of {index.path}) is there twice: {found[0]} and "
                f"{found[1]}; remove one."
            )
        if candidates:
            paths[name] = candidates[0]
        else:
            absent.append(image)
    if absent:
        raise InputError(
            f"{len(absent)} of {len(index.images)} images named in {index.path} are not in "
            f"{folder} or below it, the first is {absent[0].name} (id {absent[0].ids[0]}); "
            "check source.images, or fetch the images again."
        )
    return paths


def _may_be_one(one: Path, other: Path) -> bool:
    """Whether one path may be the other's rest, as `a.png` of `images/a.png`."""
    common = min(len(one.parts), len(other.parts))
    return one.parts[-common:] == other.parts[-common:]


def _distinct(paths: list[Path]) -> list[Path]:
    """Leave out links to files that are there already."""
    if len(paths) < 2:
        return paths
    return list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]


def unite(index: CocoIndex, paths: dict[str, Path]) -> None:
    """Make one image of those that are one file under several names.

    Args:
        index: The JSON file of a split; images that another one takes up are removed.
        paths: From `locate`.

    Raises:
        InputError: They are stated to have different sizes.
    """
    known: dict[str, IndexedImage] = {}
    for name, image in list(index.images.items()):
        first = known.setdefault(os.path.realpath(paths[name]), image)
        if first is image:
            continue
        if first.size != image.size:
            raise InputError(
                f"{index.path} states another size for {name} (id {image.ids[0]}) than for "
                f"{first.name} (id {first.ids[0]}), but both are {paths[name]}; correct one."
            )
        index.repeated += first.take(image)
        del index.images[name]


def find_leaks(
    indices: dict[str, CocoIndex], paths: dict[str, dict[str, Path]]
) -> dict[str, dict[str, str]]:
    """Find images that are in several splits: the same file, or copies of one name.

    Args:
        indices: The JSON files by split.
        paths: From `locate`, by split.

    Returns:
        The name in each of the splits, by one of those names.
    """
    by_name: dict[str, dict[str, str]] = {}
    by_file: dict[str, dict[str, str]] = {}
    for split, index in indices.items():
        for name in index.images:
            by_name.setdefault(name, {})[split] = name
            by_file.setdefault(os.path.realpath(paths[split][name]), {})[split] = name
    leaks: dict[str, dict[str, str]] = {}
    for names in (*by_name.values(), *by_file.values()):
        if len(names) > 1:
            label = next(iter(names.values()))
            leaks[label] = {**leaks.get(label, {}), **names}
    return leaks


def drop_leaks(indices: dict[str, CocoIndex], leaks: dict[str, dict[str, str]]) -> None:
    """Leave each image only in the last of its splits."""
    for names in leaks.values():
        splits = [split for split in indices if split in names]
        for split in splits[:-1]:
            indices[split].images.pop(names[split], None)
