"""Environments for what a benchmark compares with, beside the one the project runs in."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def ensure_environment(name: str, requirements: Sequence[str], *, inherit: bool = True) -> Path:
    """Make a virtual environment once and install the requirements into it.

    It lies in `.venv-<name>` of the checkout. It is made anew when the requirements or the
    interpreter change, or when making it was broken off.

    Args:
        name: Of the environment.
        requirements: For pip, such as `"edt==3.1.2"`.
        inherit: Let it see the packages of the running environment too; its own come first.

    Returns:
        The path of its Python.
    """
    folder = ROOT / f".venv-{name}"
    python = folder / "bin" / "python"
    stamp = folder / "complete"
    wanted = "\n".join([sys.version, sys.prefix if inherit else "", *requirements])
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Installing {', '.join(requirements)} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    if inherit:
        theirs = Path(sysconfig.get_path("purelib"))
        ours = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        # addsitedir, because a plain path would leave out the editable install of the project.
        (ours / "inherited.pth").write_text(f"import site; site.addsitedir({str(theirs)!r})\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    stamp.write_text(wanted)
    return python


def run_in_environment(name: str, requirements: Sequence[str], *, inherit: bool = True) -> None:
    """Go on with the running script in such an environment; returns only when it is in it."""
    if Path(sys.prefix).name != f".venv-{name}":
        python = ensure_environment(name, requirements, inherit=inherit)
        os.execv(python, [str(python), *sys.argv])
