"""What all commands share: arguments, messages on the screen, and how they end.

A command is a function of its parsed arguments. `run` parses, calls it and turns the outcome into
an exit status: 0 for success, 2 with one line on standard error for a user's mistake, 130 for
Ctrl-C. A bug keeps its traceback.
"""

import argparse
import atexit
import errno
import importlib
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from unet_keras.errors import InputError

Command = Callable[[argparse.Namespace], int | None]


def run(
    parser: argparse.ArgumentParser,
    command: Command,
    *,
    resumes: bool | Callable[[argparse.Namespace], bool] = False,
) -> NoReturn:
    """Parse the arguments, run the command and exit.

    Exits with 0 (or what the command returns), with 2 after `InputError` and after errors of the
    file system, which name their file, and with 130 after Ctrl-C.

    Args:
        parser: Of the arguments.
        command: What to run.
        resumes: Whether, after Ctrl-C, the same command goes on where this one was; or what tells
            so from its arguments.
    """
    arguments = parser.parse_intermixed_args()
    if isinstance(sys.stdout, TextIOWrapper):  # names of files may be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Screen(sys.stdout)])
    for noisy in ("absl", "tensorflow", "h5py", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # What is wrong with a file is said once, by who reads it.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        status = command(arguments) or 0
    except InputError as error:
        status = _complain(str(error))
    except KeyboardInterrupt:
        # A second one, while Python takes itself down, would only add noise.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        goes_on = resumes(arguments) if callable(resumes) else resumes
        rest = "; the same command goes on from here" if goes_on else ""
        print(f"\nstopped by Ctrl-C{rest}", file=sys.stderr)  # noqa: T201
        status = 130
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        status = _complain(f"{where}{error.strerror}")
    sys.exit(status)


def run_script(main: Callable[..., object]) -> NoReturn:
    """Run a function as a command of its own, whose arguments are the function's parameters.

    Those without a default must be given, `*overrides` take what is left, and what goes by keyword
    only becomes an option. Numbers are whole and at least 1. The help is the script's docstring.

    Args:
        main: Its parameters are annotated with `str` or `int`.
    """
    parser = argparse.ArgumentParser(
        description=main.__globals__.get("__doc__"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parameters = inspect.signature(main).parameters.values()
    for parameter in parameters:
        name, default = parameter.name, parameter.default
        if parameter.kind is parameter.VAR_POSITIONAL:
            parser.add_argument(name, nargs="*", default=[], metavar="key.path=value")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(
                option, default=default, help=f"({str(default).replace('%', '%%')})"
            )
        else:
            optional: dict[str, Any] = {"nargs": "?", "default": default}
            given = {} if default is parameter.empty else optional
            parser.add_argument(name, metavar=name.upper(), **given)

    def command(arguments: argparse.Namespace) -> None:
        values: list[object] = []
        named: dict[str, object] = {}
        for parameter in parameters:
            value = getattr(arguments, parameter.name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                values += value
            elif parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                values.append(
                    _whole(parameter.name, value) if parameter.annotation is int else value
                )
        main(*values, **named)

    run(parser, command)


def _whole(name: str, value: object) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{name.upper()}={text} must be a whole number of at least 1")
    return int(text)


class _Screen(logging.StreamHandler):
    """Writes to standard output as long as that takes anything; the work goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """After a closed pipe or a full disk, send what is still to be said nowhere."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        # By number, so that what is left in the buffer does not fail again at the end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):  # as of `| head`, which has seen enough
            _complain(f"standard output takes no more ({error.strerror}); going on without it")


def import_tensorflow() -> None:
    """Import TensorFlow without what it prints while it starts.

    It greets, names libraries it could do without and reports a missing GPU as an error, partly
    before any setting of its own is heard. Errors while importing are raised all the same.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    screen, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def experiment_parser(name: str, purpose: str) -> argparse.ArgumentParser:
    """Return the parser of a command that takes an experiment: CONFIG and `key.path=value`s."""
    parser = argparse.ArgumentParser(
        prog=f"python -m unet_keras.{name}",
        description=purpose,
        epilog="Keys and their defaults: unet_keras/settings/; examples: configs/.",
    )
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="YAML file of the experiment; without it the built-in one on synthetic cells",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="values that replace the file's"
    )
    return parser


def split_config(arguments: argparse.Namespace) -> tuple[str | None, list[str]]:
    """Return the config's path, if one was given, and the overrides.

    The first argument is an override, not a file, where it reads like one.
    """
    first, overrides = arguments.config, list(arguments.overrides)
    if first is not None and "=" in first and not os.path.exists(first):  # noqa: PTH110
        return None, [first, *overrides]
    return first, overrides


def names_source(path: str | None, overrides: Sequence[str]) -> bool:
    """Tell whether somebody chose what images are read: with a config, or by a key of its own."""
    return path is not None or any(one.strip().startswith("source") for one in overrides)


def _complain(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 - the screen is its place
    return 2
