"""What the U-Net replaced, and what a user would take instead of this project, beside it.

The same 7 images of LIVECell's sample, the same time of the processor for whatever trains, three
seeds; scored by `python -m unet_keras.evaluate --predictions` on 5 images of other wells. Two of
these have helped to choose what this project's U-Net learns (separation.py), so the table has the
mean of the three others too. Each peer is a script in benchmarks/peers/, in an environment of its
own where it needs packages, from random weights unless its row says otherwise: what is trained
elsewhere cannot be trained for equal time.

Prints a table after each seed. What is in benchmarks/results/peers.json already is not done again,
so the script may be stopped at any time. `python benchmarks/peers.py DIR [--only unet stardist]`
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from claim_tables import ALL_IMAGES, LIVECELL, OUTLINES, TRANSFORMED
from environment import ensure_environment
from results_file import RESULTS, end_with_children, keep_result, read_results
from samples import LIVECELL_SCORED, livecell_names, livecell_sample, where_livecell, write_pairs
from separation import SCREENED
from trials import DEFAULT, ROOT, WORK, Trial, digest, settings_of, write_split

from unet_keras import command
from unet_keras.errors import InputError

FILE = RESULTS / "peers.json"
FOLDER = ROOT / "runs" / "peers"
TRIED = FOLDER / "peers.json"  # what was tried with another time, or on fewer pixels
CPU_SECONDS = 480.0  # 4 minutes on two cores
SEEDS = 3
SCORES = {"Dice": "dice", "SA": "segmentation_accuracy", "SA50": "segmentation_accuracy_50"}


@dataclass(frozen=True)
class Peer:
    """A row of the table.

    Attributes:
        row: Its label.
        script: In benchmarks/peers/.
        variant: For the script.
        environment: Name of an environment of its own; empty for the running one.
        requirements: For pip.
        learns: Whether seeds make a difference.
    """

    row: str
    script: str
    variant: str = ""
    environment: str = ""
    requirements: tuple[str, ...] = ()
    learns: bool = True


MONAI = {"environment": "monai", "requirements": ("torch==2.13.0", "monai==1.6.1")}
STARDIST = {"environment": "stardist", "requirements": ("stardist==0.9.2",)}
PEERS = {
    "classical": Peer("local variance, Otsu, watershed", "classical", learns=False),
    "windows_33": Peer("a network on windows of 33 pixels", "windows", "33"),
    "windows_65": Peer("a network on windows of 65 pixels", "windows", "65"),
    "no_skips": Peer("U-Net without skip connections", "networks", "no_skips"),
    "monai": Peer("MONAI's U-Net", "monai_unet", **MONAI),
    "stardist": Peer("StarDist, its defaults", "stardist_stars", "defaults", **STARDIST),
    "stardist_short": Peer("StarDist, falling rate", "stardist_stars", "short", **STARDIST),
    "unet": Peer("U-Net", "networks", "unet"),
    "unet_more": Peer("U-Net, from the network that ships", "networks", "unet_more"),
}


def prepare(sample: Path) -> None:
    """Write the images as `peers/exchange.py` has it."""
    from unet_keras import config as configuration

    trained = livecell_names(sample)
    if len(trained) != ALL_IMAGES:
        raise InputError(
            f"{sample} has {len(trained)} images to train on, and {ALL_IMAGES} are expected"
        )
    config = configuration.load(ROOT / LIVECELL, [*where_livecell(sample), *OUTLINES])
    images = (*trained, *LIVECELL_SCORED)
    WORK.mkdir(parents=True, exist_ok=True)
    records = write_split(config, Trial(LIVECELL, OUTLINES, images, LIVECELL_SCORED, 0, {}))
    shutil.rmtree(FOLDER / "data", ignore_errors=True)
    for split in ("train", "test"):
        write_pairs(records, split, FOLDER / "data" / split)
    (FOLDER / "data" / "records").symlink_to(records)


def measure(key: str, seed: int, cpu_seconds: float, more: Sequence[str]) -> dict[str, Any]:
    """Train, segment and score, or return what is known."""
    peer, name = PEERS[key], f"{key}/seed {seed}"
    file = TRIED if more or cpu_seconds != CPU_SECONDS else FILE
    definition = define(peer, seed, cpu_seconds, more)
    known = read_results(file).get(name, {})
    if known.get("definition") == definition:
        return known
    python = sys.executable
    if peer.environment:
        python = str(ensure_environment(peer.environment, peer.requirements))
    output = FOLDER / name.replace("/", "-").replace(" ", "-")
    shutil.rmtree(output, ignore_errors=True)
    training = [python, str(ROOT / "benchmarks" / "peers" / f"{peer.script}.py"),
               str(FOLDER / "data"), str(output), f"--cpu-seconds={cpu_seconds}",
               f"--seed={seed}", *([f"--variant={peer.variant}"] if peer.variant else []),
               *more]  # fmt: skip
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    environment = os.environ | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(training, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    evaluate = [sys.executable, "-m", "unet_keras.evaluate", "--predictions", str(output),
                "--truth", str(FOLDER / "data" / "records"), "--kind", "labels"]  # fmt: skip
    subprocess.run(evaluate, env=environment, stdout=subprocess.DEVNULL, check=True)
    metrics = json.loads((output / "evaluation" / "metrics.json").read_text())
    account = json.loads(done.stdout.splitlines()[-1])
    known = {
        **account,
        **{key: round(metrics["overall"][key], 4) for key in SCORES.values()},
        "by_image": {
            row["file_name"]: {key: round(row[key], 4) for key in SCORES.values()}
            for row in metrics["images"]
        },
        "definition": definition,
    }
    keep_result(file, name, known)
    return known


def define(peer: Peer, seed: int, cpu_seconds: float, more: Sequence[str]) -> dict[str, Any]:
    """What a result is kept by: of this project's own networks the settings too."""
    definition = {
        "scored": list(LIVECELL_SCORED), "cpu_seconds": cpu_seconds, "seed": seed,
        "variant": peer.variant, "requirements": list(peer.requirements), "more": list(more),
    }  # fmt: skip
    if peer.script == "networks":
        definition["settings"] = settings_of(LIVECELL, [*OUTLINES, *TRANSFORMED])
    if peer.variant == "unet_more":
        definition["default"] = digest(DEFAULT)
    return definition


def table_of(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown, a row a peer: means over its seeds, and how far they lie apart in SA."""
    heads = ["", *SCORES, "spread of SA", "SA, not screened"]
    heads += ["s an image", "CPU s an image", "steps"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for key, found in results.items():
        means = [f"{np.mean([each[name] for each in found]):.3f}" for name in SCORES.values()]
        values = [each["segmentation_accuracy"] for each in found]
        spread = f"{np.ptp(values):.3f}" if len(found) > 1 else ""
        others = [
            scores["segmentation_accuracy"]
            for each in found
            for image, scores in each.get("by_image", {}).items()
            if image not in SCREENED
        ]
        unseen = f"{np.mean(others):.3f}" if others else ""
        times = [
            f"{np.median([each[name] for each in found]):.2f}"
            for name in ("image_seconds", "image_cpu_seconds")
        ]
        steps = round(float(np.mean([each["steps"] for each in found])))
        cells = [PEERS[key].row, *means, spread, unseen, *times, str(steps)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not known yet and print the table after each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=livecell_sample, help="images/ and annotations/")
    parser.add_argument("--only", nargs="*", choices=list(PEERS), help="these only")
    parser.add_argument("--seeds", type=int, default=SEEDS, choices=range(1, SEEDS + 1))
    parser.add_argument("--cpu-seconds", type=float, default=CPU_SECONDS, help="of each training")
    parser.add_argument("--every", type=int, default=1, help="of windows' pixels, to try it out")
    end_with_children()
    command.run(parser, _command, resumes=True)


def _command(arguments: argparse.Namespace) -> None:
    prepare(arguments.sample)
    results: dict[str, list[dict[str, Any]]] = {key: [] for key in arguments.only or PEERS}
    for seed in range(arguments.seeds):
        for key, found in results.items():
            if PEERS[key].learns or seed == 0:
                sparse = PEERS[key].script == "windows" and arguments.every > 1
                more = [f"--every={arguments.every}"] if sparse else []
                found.append(measure(key, seed, arguments.cpu_seconds, more))
        print(f"\n{table_of(results)}", flush=True)


if __name__ == "__main__":
    main()
