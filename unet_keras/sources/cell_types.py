"""Kinds of synthetic cells: four that resemble LIVECell's, and any other, drawn at random.

A network learns what its training images have in common. Of four kinds that is more than real
cells share with them; of kinds drawn anew for each image (domain randomization, Tobin et al. 2017)
it is little but what makes a cell: something with an outline, that differs from its surroundings.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CellType:
    """How one kind of cell looks, and what lies around it.

    Attributes:
        spacing_pixels: Least distance between centers, on average; measured in a metric that
            shortens the long axis of elongated cells.
        radius: Radius of a cell on its own, in units of its spacing.
        elongation: Length over width, at least 1.
        arms: Protrusions of a cell on its own.
        colony_fraction: Share of the image that is overgrown, in [0, 1].
        colony_pixels: Extent of a colony.
        rounded: Share of cells that rounded up, as before division, in [0, 1].
        rim: Grey values of the bright rim above the background.
        halo: Grey values of the halo around a colony above the background.
        shade: Grey values below the background of a cell's margin, a measure of its height.
        granules: Grey values, standard deviation of the granules in a cell.
        arm_length: Of the longest protrusions, in units of the radius.
        spread: Standard deviation of the logarithm of the spacing, from cell to cell.
        lone: Share of the places between colonies where a cell may settle, in [0, 1].
        rounded_pixels: Largest radius of a cell that rounded up.
        nucleus_pixels: Largest radius of a nucleus.
        grain: Size of the granules, 1 for 2 to 3 pixels.
        fade: How fast granules become fewer beyond the nucleus, in units of 1 over its radius; flat
            cells end in a clear seam.
        contrast: Standard deviation of the logarithm of a cell's contrast.
        least_contrast: What no cell is fainter than, above 0.
        fibers: Grey values of the matrix of fibers.
        debris: How much debris there is, 1 for a ghost or ring every 4,500 pixels.
        dots: How many dark dots there are in 4,500 pixels, remains of dead cells.
        noise: Grey values, standard deviation of the camera's noise.
        flattening_pixels: Extent above which the microscope's software takes brightness out, as it
            did for LIVECell; 0 for none.
    """

    spacing_pixels: float
    radius: float
    elongation: float
    arms: int
    colony_fraction: float
    colony_pixels: float
    rounded: float
    rim: float
    halo: float
    shade: float
    granules: float
    arm_length: float = 1.3
    spread: float = 0.18
    lone: float = 0.01
    rounded_pixels: float = np.inf
    nucleus_pixels: float = np.inf
    grain: float = 1.0
    fade: float = 0.0
    contrast: float = 0.3
    least_contrast: float = 0.7
    fibers: float = 65.0
    debris: float = 1.0
    dots: float = 0.0
    noise: float = 1.8
    flattening_pixels: float = 0.0


# Sizes and densities after LIVECell: SkBr3 and BV2, SHSY5Y, A172 and SKOV3, MCF7.
CELL_TYPES = {
    "Round": CellType(17.5, 0.66, 1.1, 0, 0.52, 60, 0.12, 27, 12, 6, 15),
    "Spindle": CellType(18, 0.68, 3.5, 0, 0.52, 90, 0.04, 23, 6, 3, 15),
    "Spread": CellType(26, 0.85, 1.4, 4, 0.48, 100, 0.04, 22, 4, 1, 15),
    "Clumped": CellType(12, 0.85, 1.2, 0, 0.46, 70, 0.03, 23, 7, 3, 15),
}


def draw_type(rng: np.random.Generator) -> CellType:
    """Draw a kind of cell; sizes and strengths on a logarithmic scale.

    Args:
        rng: Source of randomness.

    Returns:
        Cells of 10 to 100 pixels across, sparse or grown together, smooth or full of granules,
        mostly on a clear ground.
    """

    def scaled(lowest: float, highest: float) -> float:
        return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))

    def sometimes(share: float, lowest: float, highest: float, otherwise: float = 0.0) -> float:
        value = rng.uniform(lowest, highest)
        return float(value) if rng.random() < share else otherwise

    return CellType(
        spacing_pixels=scaled(11, 58),
        radius=rng.uniform(0.6, 0.95),
        elongation=1 + min(rng.exponential(0.6), 3),
        arms=round(sometimes(0.6, 0, 6)),
        colony_fraction=rng.uniform(0.08, 0.75),
        colony_pixels=rng.uniform(40, 140),
        rounded=sometimes(0.1, 0.3, 1, otherwise=rng.uniform(0, 0.25) ** 1.5),
        rim=scaled(6, 38),
        halo=rng.uniform(0, 14),
        shade=rng.uniform(0, 7),
        granules=scaled(5, 45),
        arm_length=rng.uniform(0.6, 2.6),
        spread=rng.uniform(0.12, 0.5),
        lone=rng.uniform(0.001, 0.06),
        rounded_pixels=rng.uniform(7, 16),
        nucleus_pixels=rng.uniform(8, 14),
        grain=rng.uniform(0.8, 2),
        fade=sometimes(0.65, 0.3, 3),
        contrast=rng.uniform(0.1, 0.7),
        least_contrast=0.25,
        fibers=sometimes(0.25, 5, 65),
        debris=sometimes(0.2, 1, 3, otherwise=rng.uniform(0, 0.8)),
        dots=sometimes(0.4, 0.5, 12),
        noise=rng.uniform(0.6, 2.5),
        flattening_pixels=sometimes(0.7, 8, 40),
    )
