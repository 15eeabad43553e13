"""What the two texts behind this project claim, as trainings to be compared; `claims.py` does it.

    2015   Ronneberger, Fischer and Brox, "U-Net", as summarized: elastic deformation where images
           are few, weights that part touching cells, patches between localization and context
    2023   the report "UNETS" on LIVECell: crops instead of resized images, plain training first

Every training of a table makes as many steps as fit the same time of the processor (trials.py). A
table's settings are given here wherever its config may change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trials import mean_score

LIVECELL = "configs/livecell_sample.yaml"
ISBI = "configs/unet2015_isbi_cpu.yaml"
CPU_SECONDS = 240.0  # 2 minutes on two cores
ALL_IMAGES = 7  # of LIVECell's sample, beside those that are scored

Measure = Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Variant:
    """One row of a table, or one cell of it.

    Attributes:
        row: Its label.
        overrides: What is tried.
        column: Label of the column, for tables of two dimensions.
        images: How many images are trained on (LIVECell).
        phases: As `Trial` has it.
        shrunk_to: Likewise.
    """

    row: str
    overrides: tuple[str, ...] = ()
    column: str = ""
    images: int = ALL_IMAGES
    phases: tuple[tuple[float, str], ...] = ()
    shrunk_to: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Of its results."""
        return f"{self.row}, {self.column}" if self.column else self.row


@dataclass(frozen=True)
class Table:
    """A claim and what tests it.

    Attributes:
        title: The claim.
        base: Overrides of all its trainings.
        variants: What is compared.
        readouts: Ways from probabilities to instances, as `Trial` has it.
        measures: What is shown, by the column's head.
        config: YAML file of all its trainings.
        cpu_seconds: Of each training, two cores together.
    """

    title: str
    base: tuple[str, ...]
    variants: tuple[Variant, ...]
    readouts: Mapping[str, tuple[str, ...]]
    measures: Mapping[str, Measure] = field(default_factory=dict)
    config: str = LIVECELL
    cpu_seconds: float = CPU_SECONDS


def at(readout: str, name: str) -> Measure:
    """A score at one readout, mean over the images."""
    return lambda result: mean_score(result, readout, name)


def best(name: str, among: tuple[str, ...], *, sign: int = 1) -> Measure:
    """The best mean score of several readouts, the lowest one with `sign=-1`."""
    return lambda result: sign * max(sign * mean_score(result, each, name) for each in among)


WATERSHED = {"watershed": ("method=watershed", "seed_smoothing=3", "seed_prominence=0.1")}
LEVELS = ("0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9")
COMPONENTS = {level: ("method=components", f"threshold={level}") for level in LEVELS}
CELL_MEASURES = {
    "SA": at("watershed", "sa"), "SA50": at("watershed", "sa50"),
    "Dice": at("watershed", "dice"), "boundary F1": at("watershed", "boundary_f1"),
}  # fmt: skip

# What did best in separation.py, from random weights. By linear interpolation, transformed images
# would be blurrier than plain ones, and comparisons tell of that.
FRESH = (
    "train.start_from=''", "evaluate.tta=false", "train.optimizer.average=0.995",
    "augment.image_order=3",
)  # fmt: skip
OUTLINES = (
    *FRESH, "model.base_filters=32", "model.depth=3", "model.stride=2",
    "targets.kind=cells_and_borders", "targets.outline_pixels=2", "loss.border_weight=2",
    "pipeline.crop=[256,256]", "pipeline.batch_size=8",
)  # fmt: skip
# The published network at full resolution, a quarter as wide.
FULL = (
    *FRESH, "model.base_filters=16", "model.depth=4", "model.stride=1", "targets.kind=cells",
    "targets.outline_pixels=1", "targets.separate_touching=true",
)  # fmt: skip
CROPS = ("pipeline.crop=[256,256]", "pipeline.batch_size=8")

# The report's: "in addition a rotation was also applied", and nothing else.
REPORTED = (
    "augment.zoom=[1,1]", "augment.rotation_degrees=180", "augment.flip=false",
    "augment.brightness=0", "augment.contrast=0",
)  # fmt: skip
RIGID = ("augment.zoom=[0.8,1.25]", "augment.rotation_degrees=180", "augment.flip=true")
GREY = ("augment.brightness=0.3", "augment.contrast=0.3")
DEFORMATIONS = {
    "none": ("augment.kind=grid", "augment.deviation_pixels=0"),
    "coarse grid": ("augment.kind=grid", "augment.deviation_pixels=10", "augment.grid=[3,3]"),
    "smoothed noise": ("augment.kind=smooth", "augment.alpha=300", "augment.sigma=8"),
}
COUNTS = (1, 3, 5, 7)


def _deformations() -> tuple[Variant, ...]:
    """Each deformation beside rotation, zoom, flips and grey values, and none of all that."""
    rows = {f"deformation: {name}": (*RIGID, *GREY, *d) for name, d in DEFORMATIONS.items()}
    rows["plain crops"] = ("augment.mode=none",)
    return tuple(
        Variant(row, overrides, _images(count), count)
        for count in COUNTS
        for row, overrides in rows.items()
    )


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


TRANSFORMED = (*RIGID, *GREY, *DEFORMATIONS["coarse grid"])
# Equation 1 and 2 of 2015: cross-entropy alone, classes balanced, w0 times the border map.
WEIGHTED = (
    "loss.dice=0", "loss.class_weights=balanced", "targets.sigma_pixels=5", *CROPS, *TRANSFORMED,
)  # fmt: skip
WEIGHTS = (
    *(Variant(f"w0 = {w0}", (f"loss.border_weight={w0}",)) for w0 in (0, 5, 10, 20)),
    # Without balance, the border's weight alone decides.
    *(
        Variant(f"w0 = {w0}, classes as they are",
                (f"loss.border_weight={w0}", "loss.class_weights=[]"))
        for w0 in (0, 5)
    ),
)  # fmt: skip

SMALL, LARGE = (166, 217), (333, 434)  # pixels of a crop; the report's, and a quarter of it


def _crop(size: tuple[int, int], batch_size: int) -> tuple[str, ...]:
    return f"pipeline.crop=[{size[0]},{size[1]}]", f"pipeline.batch_size={batch_size}"


TABLES: dict[str, Table] = {
    "deformation": Table(
        "Elastic deformation lets a network learn from few images (2015)",
        OUTLINES, _deformations(), WATERSHED, CELL_MEASURES,
    ),
    "weights": Table(
        "Weights between touching cells part them (2015), LIVECell",
        (*FULL, *WEIGHTED), WEIGHTS, COMPONENTS | WATERSHED,
        {
            "SA of components": at("0.5", "sa"), "SA, best threshold": best("sa", LEVELS),
            "SA50, best threshold": best("sa50", LEVELS), "SA by watershed": at("watershed", "sa"),
            "Dice": at("0.5", "dice"),
        },
    ),
    "membranes": Table(
        "Weights between touching cells part them (2015), ISBI 2012",
        (*FULL, *WEIGHTED), WEIGHTS, COMPONENTS,
        {
            "V_rand": best("v_rand", LEVELS), "V_rand at 0.5": at("0.5", "v_rand"),
            "pixel error": best("pixel_error", LEVELS, sign=-1),
            "pixel error at 0.5": at("0.5", "pixel_error"),
        },
        config=ISBI,
    ),
    "cropping": Table(
        "Resizing costs quality that cropping keeps (2023, figure 2)",
        (*FULL, "loss.border_weight=5", *REPORTED, *DEFORMATIONS["smoothed noise"]),
        (
            Variant("crops of 333 x 434", _crop(LARGE, 4)),
            Variant("whole images shrunk to 333 x 434", _crop(LARGE, 4), shrunk_to=LARGE),
            Variant("crops of 166 x 217", _crop(SMALL, 16)),
            Variant("whole images shrunk to 166 x 217", _crop(SMALL, 16), shrunk_to=SMALL),
        ),
        COMPONENTS | WATERSHED, CELL_MEASURES | {"SA of components": best("sa", LEVELS)},
    ),
    "patches": Table(
        "Small patches localize, large ones see context (2015)",
        (*FULL, "loss.border_weight=5", *TRANSFORMED),
        tuple(
            Variant(f"patches of {side} pixels, {depth} poolings",
                    (*_crop((side, side), batch), f"model.depth={depth}"))
            for side, batch in ((64, 128), (256, 8)) for depth in (2, 4)
        ),
        COMPONENTS | WATERSHED, CELL_MEASURES | {"SA of components": best("sa", LEVELS)},
    ),
    "phases": Table(
        "Training starts with plain images and goes on with transformed ones (2023)",
        (*OUTLINES, *TRANSFORMED),
        (
            Variant("transformed throughout"),
            # The rate falls and rises as in the next two, so that only the images differ.
            Variant("transformed throughout, two phases", phases=((0.5, ""), (0.5, ""))),
            Variant("plain, then transformed",
                    phases=((0.5, "augment: none"), (0.5, "augment: replace"))),
            Variant("plain, then plain and transformed in turn",
                    phases=((0.5, "augment: none"), (0.5, "augment: append"))),
            Variant("plain throughout", phases=((1.0, "augment: none"),)),
        ),
        WATERSHED, CELL_MEASURES,
    ),
}  # fmt: skip
