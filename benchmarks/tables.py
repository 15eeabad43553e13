"""The tables of benchmarks/README.md, from what experiments have left in benchmarks/results.

`python benchmarks/tables.py` writes them into it, each below the comment with its name; it trains
nothing and needs no images.
"""

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import claims
import peers
import separation
from claim_tables import TABLES
from results_file import read_results

from unet_keras import command
from unet_keras.errors import InputError

PAGE = Path(__file__).resolve().parent / "README.md"


def tables() -> dict[str, str]:
    """Markdown by name, of everything that was measured."""
    separated = read_results(separation.FILE)
    screened = {
        choice: separated[f"screen/{choice}"]
        for choice in separation.CHOICES
        if f"screen/{choice}" in separated
    }
    # Of a seed whose folds are not all there, the mean would be one of other images.
    whole = Counter(name.rpartition("/")[0] for name in separated if name.startswith("folds/"))
    folds = _by_seed(
        {k: v for k, v in separated.items() if whole[k.rpartition("/")[0]] == separation.FOLDS},
        "folds/",
    )
    found = {
        "screen": separation.screen_table(screened),
        "folds": separation.folds_table({c: folds[c] for c in separation.FINALISTS if c in folds}),
    }
    claimed = read_results(claims.FILE)
    for key in TABLES:
        results = _by_seed({k: v for k, v in claimed.items() if k.startswith(f"{key}/")}, f"{key}/")
        if results:
            found[key] = claims.table_of(key, results)
    measured = _by_seed(read_results(peers.FILE), "")
    found["peers"] = peers.table_of({key: measured[key] for key in peers.PEERS if key in measured})
    return found


def _by_seed(results: Mapping[str, Any], prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Results whose names go on with `/seed N`, by what stands between."""
    found = defaultdict(list)
    for name, result in sorted(results.items()):
        found[name.removeprefix(prefix).split("/seed ")[0]].append(result)
    return dict(found)


def renewed(page: str) -> str:
    """The page with its tables as they are now."""
    for name, table in tables().items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        if len(place.findall(page)) != 1:
            raise InputError(f"{PAGE} has no place for one table {name!r}, or several")
        page = place.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n", page)
    return page


def main() -> None:
    """Write them."""
    command.run(argparse.ArgumentParser(description=__doc__.splitlines()[0]), _command)


def _command(_: argparse.Namespace) -> None:
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
