"""From an experiment's source to its records: the step that `make_records` and `train` share."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unet_keras.config import Config
from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings
from unet_keras.records.manifest import MANIFEST_NAME, WORK_FOLDER, Manifest
from unet_keras.records.masks import demand_own_folder, make_folders, mask_names, write_masks
from unet_keras.records.origin import (
    BEFORE,
    demand_read,
    described_places,
    origin_of,
    other_places,
)
from unet_keras.records.parts import state_of
from unet_keras.records.placing import REPORT_NAMES, SOURCE_NAME, demand_no_others
from unet_keras.records.report import keep_report
from unet_keras.records.writer import write_records
from unet_keras.sources.base import SPLITS, SampleReference
from unet_keras.sources.channels import in_channels
from unet_keras.sources.coco import read_coco
from unet_keras.sources.coco_notes import SourceNotes
from unet_keras.sources.download import download_livecell
from unet_keras.sources.folder_splits import read_lists
from unet_keras.sources.folders import folder_references
from unet_keras.sources.synthetic import synthetic_references

logger = logging.getLogger(__name__)


def convert(config: Config, *, masks: Path | None = None) -> Manifest:
    """Convert what the config's source holds into records at `records.path`, with a report.

    Records that are there already, of the same images and settings, are left as they are.

    Args:
        config: The experiment.
        masks: Folder for images and masks as grey PNG files too.

    Returns:
        The manifest of the records.

    Raises:
        InputError: The source is absent or damaged, or is `records.path` itself; what was there
            before stays.
    """
    demand_read(config.source)
    path = Path(config.records.path)
    _demand_apart(path, config)
    demand_no_others(path)  # before anything is fetched or made
    references, notes = _read(config)
    _tell_replaced(path, config)
    names = []
    if masks is not None:
        demand_own_folder(masks, _source_folders(config))
        names = mask_names(references, masks)
        make_folders(masks, references)
    groups = Counter(reference.split for reference in references)
    logger.info(
        "%d images: %s", len(references), ", ".join(f"{n} {split}" for split, n in groups.items())
    )
    with _bar(len(references)) as bar:
        manifest = write_records(
            references,
            path,
            **targets_of(config),
            workers=config.records.workers or None,
            shard_images=config.records.shard_images,
            configuration=_configuration(config),
            origin=origin_of(config.source),
            progress=bar.update,
        )
    remarks = notes.lines()
    report = keep_report(path, manifest, references, notes=asdict(notes), remarks=remarks)
    for remark in report["remarks"][len(remarks) :]:  # the source's came before the conversion
        logger.warning("%s: %s", path, remark)
    logger.info("records:     %s", path)
    logger.info("look at it:  %s", path / REPORT_NAMES[0])
    if masks is not None:
        written = write_masks(
            references,
            names,
            masks,
            TargetSettings(
                separate=config.targets.separate_touching, overlap=config.targets.overlap
            ),
            num_classes=manifest.num_classes,
            workers=config.records.workers or None,
        )
        with _bar(len(references)) as bar:
            for images in written:
                bar.update(images)
        logger.info("masks:       %s", masks)
    return manifest


def targets_of(config: Config) -> dict[str, Any]:
    """What `write_records` makes of each image, by its arguments."""
    targets = config.targets
    return {
        "maps": config.records.maps,
        "sigma_pixels": targets.sigma_pixels,
        "separate": targets.separate_touching,
        "overlap": targets.overlap,
    }


def refuse_replacing(config: Config) -> None:
    """Refuse to put images of one kind of source in the place of another kind's.

    Meant for a source that nobody named: who forgets CONFIG means no synthetic images.

    Raises:
        InputError: `records.path` holds records of another `source.kind`, or an unfinished
            conversion of one.
    """
    path = Path(config.records.path)
    work = path / WORK_FOLDER
    finished = state_of(path / MANIFEST_NAME).get("configuration")
    for what, described in (
        ("records", finished),
        ("an unfinished conversion", state_of(work / SOURCE_NAME)),
    ):
        kind = described.get("kind") if isinstance(described, dict) else None
        if kind not in (None, config.source.kind):
            raise InputError(
                f"{path} holds {what} of source.kind={kind}, which the built-in source.kind="
                f"{config.source.kind} would replace; give the CONFIG and overrides of those, "
                "or another records.path."
            )


def _demand_apart(path: Path, config: Config) -> None:
    for key, folder in _source_folders(config).items():
        if folder.resolve() == path.resolve():
            raise InputError(
                f"records.path={path} is the folder of {key}, where records do not belong: give "
                "another records.path"
            )


def _tell_replaced(path: Path, config: Config) -> None:
    """Say which records of other images give way."""
    made = state_of(path / MANIFEST_NAME).get("configuration")
    if not isinstance(made, dict) or "kind" not in made:
        return
    asked = _configuration(config)
    if made["kind"] != asked["kind"] or other_places(path, made, config.source):
        logger.warning(
            "%s: records of %s are replaced by those of %s; another records.path keeps both",
            path, described_places(made), described_places(asked),
        )  # fmt: skip


def _configuration(config: Config) -> dict[str, Any]:
    """What decides the records; where they were fetched from does not, nor does their license."""
    other = ["download", "url", "sha256", "license"]
    # Later keys: records from before them stay valid.
    other += [key for key, value in BEFORE.items() if getattr(config.source, key) == value]
    return {name: value for name, value in asdict(config.source).items() if name not in other}


def _source_folders(config: Config) -> dict[str, Path]:
    """What is read, by the name of its key; nothing for images that are drawn."""
    if config.source.kind == "synthetic":
        return {}
    source = config.source
    return {
        "source.images": Path(source.images),
        "source.annotations": Path(source.annotations),
    }


def _bar(images: int) -> tqdm:
    """A progress bar with images a second and time left; none where nobody looks."""
    return tqdm(total=images, unit="image", disable=not sys.stderr.isatty())


@contextmanager
def _transfers() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each file that is downloaded or unpacked."""
    bars: dict[str, tqdm] = {}

    def report(name: str, done: int, total: int) -> None:
        if name not in bars:
            named = {"desc": name, "unit": "B", "unit_scale": True}
            bars[name] = tqdm(total=total, disable=not sys.stderr.isatty(), **named)
        bars[name].update(done - bars[name].n)

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()


def read_source(config: Config) -> Sequence[SampleReference]:
    """List what the config's source offers, without opening an image."""
    return _read(config)[0]


def _read(config: Config) -> tuple[Sequence[SampleReference], SourceNotes]:
    """List the images, and say what is irregular."""
    references, notes = _stored(config)
    if config.source.channels:
        references = in_channels(references, config.source.channels)
    return references, notes


def _stored(config: Config) -> tuple[Sequence[SampleReference], SourceNotes]:
    """List the images as their files have them."""
    source = config.source
    if source.download:
        with _transfers() as report:
            download_livecell(
                Path(source.images),
                Path(source.annotations),
                url=source.url,
                sha256=source.sha256,
                progress=report,
            )
    if source.kind == "coco":
        references, notes = read_coco(
            Path(source.images),
            Path(source.annotations),
            group_pattern=source.group_pattern,
            on_leak=source.on_leak,
        )
        for line in notes.lines():
            logger.warning("%s: %s", source.annotations, line)
        return references, notes
    if source.kind == "folders":
        listed = folder_references(
            Path(source.images),
            Path(source.annotations),
            kind=source.mask_kind,
            class_values=source.class_values,
            lists=read_lists(Path(source.lists)) if source.lists else None,
            fractions=source.fractions,
            seed=config.seed,
            group_pattern=source.group_pattern,
            split_by_group=source.split_by_group,
            split_in_order=source.split_in_order,
        )
        return listed, SourceNotes()
    counts = dict(zip(SPLITS, source.counts, strict=True))
    drawn = synthetic_references(counts, seed=config.seed, size=source.size, cells=source.cells)
    return drawn, SourceNotes()
