"""What of a prediction is done, so that one that was stopped goes on from there.

    RESULTS/.unfinished     a line a picture: name, state of its file, and its rows of the tables,
                            each as JSON, with tabs between; the first line says what made them

A line is written when the picture's own files are in place. The tables are put in place at the end,
from lines and new rows alike, and are as if nothing had happened.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unet_keras.errors import InputError
from unet_keras.inference.cells import Row
from unet_keras.inference.pictures import Picture
from unet_keras.inference.results import ENDINGS
from unet_keras.locking import take_place

JOURNAL = ".unfinished"


@dataclass(frozen=True)
class Finished:
    """What is left of a picture when its own files are written.

    Attributes:
        size: Height and width in pixels.
        count: Its row of `counts.csv`.
        cells: Its rows of `cells.csv`; none where they were not asked for.
        coco: Its cells for COCO; likewise.
        in_parts: Whether it was too large for memory, and goes on from files of its own.
    """

    size: tuple[int, int]
    count: Row
    cells: Iterable[Row] = ()
    coco: Sequence[Mapping[str, Any]] = ()
    in_parts: bool = False


class Journal:
    """The pictures of a folder of results that are done; use it as a context.

    The context holds it against other processes. `begin` comes next; then, where the context ends
    without an error, it is removed, as it is where nothing is in it.

    Args:
        output: Folder of the results.
        made_with: What decides them, with `write`, the kinds of files; JSON values.

    Raises:
        InputError: When it is entered, another process predicts into the folder.
    """

    def __init__(self, output: Path, made_with: Mapping[str, Any]) -> None:
        self._output = output
        self._path = output / JOURNAL
        self._head = json.dumps(made_with, sort_keys=True).encode() + b"\n"
        self._kinds = [kind for kind in made_with["write"] if kind in ENDINGS]
        self._places: dict[tuple[str, str], int] = {}
        self._begun = False

    def __enter__(self) -> Self:
        self._file = self._path.open("a+b")
        if not take_place(self._file, self._path):
            self._file.close()
            raise InputError(
                f"another process is predicting into {self._output}: wait for it, or give another "
                "--output"
            )
        self._end = self._find_lines()
        return self

    def begin(self) -> None:
        """Give up what is of other settings, or was not finished."""
        self._file.truncate(self._end)
        if not self._end:
            self._write(self._head)
        self._begun = True

    def __len__(self) -> int:
        return len(self._places)

    def find(self, picture: Picture) -> Finished | None:
        """Return what was kept of a picture; None where it, or one of its files, is not as then."""
        place = self._places.get((picture.name, _state(picture)))
        files = [self._output / (picture.name + ENDINGS[kind][0]) for kind in self._kinds]
        if place is None or not all(file.is_file() for file in files):
            return None
        with self._path.open("rb") as file:
            file.seek(place)
            kept = json.loads(file.readline().split(b"\t")[2])
        return Finished(tuple(kept["size"]), kept["count"], kept["cells"], kept["coco"])

    def add(self, picture: Picture, finished: Finished) -> None:
        """Keep a picture whose files are written."""
        if finished.in_parts or (picture.name, _state(picture)) in self._places:
            return
        kept = {
            "size": finished.size,
            "count": finished.count,
            "cells": list(finished.cells),
            "coco": list(finished.coco),
        }
        parts = (picture.name, _state(picture), kept)
        self._write("\t".join(map(json.dumps, parts)).encode() + b"\n")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        over = (kind is None and self._begun) or not os.fstat(self._file.fileno()).st_size
        if over and os.name != "nt":  # while it is held still; Windows removes no open files
            self._path.unlink(missing_ok=True)
        self._file.close()
        if over and os.name == "nt":
            self._path.unlink(missing_ok=True)

    def _find_lines(self) -> int:
        """Note where each whole line begins; return where the last one ends."""
        end = 0
        try:
            with self._path.open("rb") as file:
                if file.readline() != self._head:
                    return 0
                end = file.tell()
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    name, state, _ = line.split(b"\t")
                    self._places[json.loads(name), json.loads(state)] = end
                    end += len(line)
        except (OSError, ValueError):  # damaged: what was read before it is whole
            pass
        return end

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            error.filename = str(self._path)
            raise


def _state(picture: Picture) -> str:
    """What tells whether an image's file is the same."""
    try:
        state = picture.path.stat()
    except OSError:
        return ""
    return f"{picture.path.resolve()} {state.st_size} {state.st_mtime_ns}"
