"""The rules between the rooms, read off the import statements, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "unet_keras"
ROOMS = [
    "sources",
    "targets",
    "records",
    "pipeline",
    "model",
    "training",
    "inference",
    "evaluation",
    "web",
]
SHARED = {"config", "settings", "errors", "drawing", "locking", "whole_files", "command"}
COMMANDS = {"make_records", "train", "evaluate", "predict", "export", "serve"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def imports_of(path: Path) -> set[str]:
    """Return every module that a file names in an import statement, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """Return what a file imports of this package, as parts below it: `records.schema`."""
    return {
        name.removeprefix("unet_keras.")
        for name in imports_of(path)
        if name.startswith("unet_keras.")
    }


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_knows_only_rooms_to_its_left(path: Path) -> None:
    room = name_of(path).split(".")[0]
    if room not in ROOMS:
        return
    known = {*ROOMS[: ROOMS.index(room) + 1], *SHARED - {"command"}}
    assert {name.split(".")[0] for name in ours(path)} <= known


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_commands_are_imported_by_nobody(path: Path) -> None:
    assert not {name.split(".")[0] for name in ours(path)} & COMMANDS


@pytest.mark.parametrize(
    "name",
    [
        "drawing",
        "errors",
        "locking",
        "whole_files",
        "records.schema",
        "pipeline.geometry",
        "model.unet",
        "model.metrics",
    ],
)
def test_some_modules_stand_alone(name: str) -> None:
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
    allowed = {"model": {"model"}, "drawing": {"whole_files"}}.get(name.split(".")[0], set())
    assert {other.split(".")[0] for other in ours(path)} <= allowed


def test_config_knows_only_its_sections_and_errors() -> None:
    assert {n.split(".")[0] for n in ours(PACKAGE / "config.py")} <= {"settings", "errors"}
    for path in (PACKAGE / "settings").glob("*.py"):
        assert {n.split(".")[0] for n in ours(path)} <= {"settings", "errors"}


def test_the_pipeline_knows_neither_sources_nor_targets() -> None:
    for path in (PACKAGE / "pipeline").glob("*.py"):
        assert not {name.split(".")[0] for name in ours(path)} & {"sources", "targets"}


def test_training_knows_nothing_of_evaluation_and_targets_nothing_of_tensorflow() -> None:
    for path in (PACKAGE / "training").glob("*.py"):
        assert not {name.split(".")[0] for name in ours(path)} & {"evaluation", "inference"}
    for path in (PACKAGE / "targets").glob("*.py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & {"tensorflow", "keras"}


def test_configs_stop_where_plain_arguments_begin() -> None:
    allowed = {
        "training.data",
        "training.fit",
        "training.planning",
        "pipeline.dataset",
        "records.conversion",
        "inference.loading",
        *COMMANDS,
        *(f"evaluation.{path.stem}" for path in (PACKAGE / "evaluation").glob("scoring.py")),
    }
    users = {name_of(path) for path in MODULES if "config" in ours(path)}
    assert users <= allowed


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after the code."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in result.stdout.split()}


def test_border_map_needs_no_tensorflow() -> None:
    loaded = loaded_after("from unet_keras import border_map, separate_touching")
    assert not loaded & {"tensorflow", "keras"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_loads_nothing_heavy(command: str) -> None:
    if not (PACKAGE / f"{command}.py").exists():
        pytest.skip(f"{command} is not there yet")
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('unet_keras.{command}', run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0"
    )
    loaded = loaded_after(code)
    assert not loaded & {"tensorflow", "keras", "numpy", "matplotlib", "omegaconf"}
