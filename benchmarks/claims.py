"""What the texts behind this project claim, measured: a table a claim, three seeds, equal time.

LIVECell's sample is trained on 7 images at most and scored on 5 of other wells; ISBI's on 16 and 4
sections. A seed draws weights, augmentation and, where not all images are trained on, which ones;
within a seed everything else is the same. Each table is printed after each seed, and what is in
benchmarks/results/claims.json already is not done again, so the script may be stopped at any time.

`python benchmarks/claims.py --livecell DIR --isbi DIR [--only weights membranes]`

Which images, weights and strengths are compared is in `claim_tables.py`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from claim_tables import CPU_SECONDS, ISBI, TABLES, Table, Variant
from results_file import RESULTS, end_with_children
from samples import (
    LIVECELL_SCORED,
    isbi_names,
    isbi_sample,
    livecell_names,
    livecell_sample,
    some_of,
    where_isbi,
    where_livecell,
)
from trials import WORK, Trial, run

from unet_keras import command
from unet_keras.errors import InputError

FILE = RESULTS / "claims.json"
TRIED = WORK / "claims.json"  # what was tried with another time
SEEDS = 3
Results = dict[str, list[dict[str, Any]]]


def train(key: str, variant: Variant, seed: int, samples: dict[str, Path | None]) -> dict[str, Any]:
    """Train and score a variant of a table with one seed, or return what is known of it."""
    table = TABLES[key]
    sample = samples["isbi" if table.config == ISBI else "livecell"]
    assert sample is not None, "main has seen to it"
    if table.config == ISBI:
        trained, scored = isbi_names(sample)
        data = where_isbi(sample)
    else:
        trained, scored = some_of(livecell_names(sample), variant.images, seed), LIVECELL_SCORED
        data = where_livecell(sample)
    trial = Trial(
        table.config,
        (*table.base, *variant.overrides),
        (*sorted(trained), *scored),
        scored,
        table.cpu_seconds,
        dict(table.readouts),
        seed,
        phases=variant.phases,
        shrunk_to=variant.shrunk_to,
        membranes=table.config == ISBI,
    )
    tried = table.cpu_seconds != CPU_SECONDS
    return run(trial, f"{key}/{variant.name}/seed {seed}", TRIED if tried else FILE, data)


def table_of(key: str, results: Results) -> str:
    """A table as Markdown: of each variant, what is there of its seeds."""
    table = TABLES[key]
    variants = [variant for variant in table.variants if results.get(variant.name)]
    return _grid(table, results) if variants[0].column else _rows(table, variants, results)


def _rows(table: Table, variants: Sequence[Variant], results: Results) -> str:
    """A row a variant: means over the seeds, and how far the seeds lie apart in the first score."""
    heads = ["", *table.measures, "spread of the first", "seeds", "steps"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for variant in variants:
        found = results[variant.name]
        values = [[measure(each) for each in found] for measure in table.measures.values()]
        cells = [variant.row, *(f"{np.mean(each):.3f}" for each in values)]
        cells.append(f"{np.ptp(values[0]):.3f}" if len(found) > 1 else "")
        cells += [str(len(found)), str(round(float(np.mean([each["steps"] for each in found]))))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _grid(table: Table, results: Results) -> str:
    """A row and a column for each of the variants' labels; a grid for each of two scores."""
    rows = list(dict.fromkeys(variant.row for variant in table.variants))
    columns = list(dict.fromkeys(variant.column for variant in table.variants))
    grids = []
    for head in ("SA", "Dice"):
        lines = [f"| {head} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row in rows:
            cells = [row]
            for column in columns:
                found = results.get(f"{row}, {column}", [])
                values = [table.measures[head](each) for each in found]
                cell = f"{np.mean(values):.3f}" if values else ""
                if len(values) > 1:
                    cell += f" ({min(values):.3f} to {max(values):.3f})"
                cells.append(cell)
            lines.append(f"| {' | '.join(cells)} |")
        grids.append("\n".join(lines))
    return "\n\n".join(grids)


def measure(key: str, rows: Sequence[str], seeds: int, samples: dict[str, Path | None]) -> None:
    """Do a table, seed after seed, and print it after each."""
    table = TABLES[key]
    variants = [v for v in table.variants if not rows or any(part in v.name for part in rows)]
    results: Results = {variant.name: [] for variant in variants}
    for seed in range(seeds if variants else 0):
        for variant in variants:
            results[variant.name].append(train(key, variant, seed, samples))
        print(f"\n{table.title}; {seed + 1} of {seeds} seeds, {table.cpu_seconds:g} CPU seconds\n")
        print(table_of(key, results), flush=True)


def main() -> None:
    """Measure what is not known yet and print the tables after each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--livecell", type=livecell_sample, help="its images/ and annotations/")
    parser.add_argument("--isbi", type=isbi_sample, help="its image/ and label/")
    parser.add_argument("--only", nargs="*", choices=list(TABLES), help="these tables only")
    parser.add_argument("--rows", nargs="*", default=(), help="rows whose name has one of these")
    parser.add_argument("--seeds", type=int, default=SEEDS, choices=range(1, SEEDS + 1))
    parser.add_argument(
        "--cpu-seconds", type=float, help="of each training, to try things out: kept in runs/"
    )
    end_with_children()
    command.run(parser, _command, resumes=True)


def _command(arguments: argparse.Namespace) -> None:
    samples = {"livecell": arguments.livecell, "isbi": arguments.isbi}
    chosen = []
    for key in arguments.only or TABLES:
        needed = "isbi" if TABLES[key].config == ISBI else "livecell"
        if samples[needed] is not None:
            chosen.append(key)
        elif arguments.only:
            raise InputError(f"the table {key!r} needs --{needed} DIR")
    if not chosen:
        raise InputError("there is nothing to train on: give --livecell DIR, --isbi DIR or both")
    names = [variant.name for key in chosen for variant in TABLES[key].variants]
    for part in arguments.rows:
        if not any(part in name for name in names):
            raise InputError(f"--rows {part} is in no name: {', '.join(names)}")
    WORK.mkdir(parents=True, exist_ok=True)
    for key in chosen:
        if arguments.cpu_seconds:
            TABLES[key] = replace(TABLES[key], cpu_seconds=arguments.cpu_seconds)
        measure(key, arguments.rows, arguments.seeds, samples)


if __name__ == "__main__":
    main()
