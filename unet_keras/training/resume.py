"""A run's state on disk: written whole or not at all, so that a killed run goes on where it was.

    RUN/checkpoints/epoch-0007/model.keras    the network after 7 epochs; opens by itself
    RUN/checkpoints/epoch-0007/training.npz   optimizer, loss scale, dropout's random state; and
                                              where weights are averaged, training's own ones
    RUN/checkpoints/epoch-0007/state.json     what else the run has to remember
    RUN/model.keras                           the best of these networks
    RUN/history.csv                           one line an epoch

A checkpoint is prepared in a folder of another name, reaches the disk and is then renamed: a folder
named `epoch-NNNN` is always complete. The newest decides; the other files follow from it.
"""

import csv
import filecmp
import io
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np

from unet_keras.errors import InputError
from unet_keras.training.optimizers import averaged_weights, own_weights
from unet_keras.training.state import RunState

_UNFINISHED = "unfinished"
_REMOVED = "removed"


def save_checkpoint(run: Path, model: keras.Model, state: RunState, *, every: int = 0) -> Path:
    """Write a checkpoint, then bring the rest of the run's folder up to it.

    Args:
        run: The run's folder.
        model: Compiled model.
        state: What else to remember.
        every: Checkpoints of epochs that this divides stay for good; 0 for none.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: The disk is full, or the like; the checkpoints before are as they were.
    """
    folder = run / "checkpoints"
    scratch = folder / _UNFINISHED
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        _write_checkpoint(scratch, model, state)
    except Exception:
        # What fits no longer would keep the disk full.
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    target = _folder_of(run, state.epoch)
    _remove(target)
    scratch.rename(target)
    _reach_disk(folder)
    complete(run, state, every=every)
    return target


def _write_checkpoint(folder: Path, model: keras.Model, state: RunState) -> None:
    with averaged_weights(model):
        save_network(model, folder / "model.keras")
    np.savez(folder / "training.npz", *_values_beside_weights(model))
    (folder / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
    for file in folder.iterdir():
        _reach_disk(file)


def save_network(model: keras.Model, path: Path) -> None:
    """Write a network as a `.keras` file, without loss and optimizer."""
    _bare(model).save(path)


def _bare(model: keras.Model) -> keras.Model:
    """A second model over the same layers, not compiled: nothing else is saved and loaded."""
    # Not the lists: a model made of them would return a list.
    (images,), (logits,) = model.inputs, model.outputs
    return keras.Model(images, logits, name=model.name)


def complete(run: Path, state: RunState, *, every: int = 0) -> None:
    """Make best network, history and the choice of checkpoints what the newest one says.

    What is so already is not touched. A run that was killed between its checkpoint and these
    files needs it before it goes on.
    """
    best = _folder_of(run, state.best_epoch) / "model.keras"
    published = run / "model.keras"
    if best.exists() and not _is_copy(published, best):
        _publish(best, published)
    _write_history(run / "history.csv", state.history)
    kept = {state.epoch, state.best_epoch}
    for folder in _checkpoints(run):
        epoch = _epoch_of(folder)
        if epoch not in kept and not (every and epoch % every == 0):
            _remove(folder)
    _clear_scratch(run)


def newest_state(run: Path) -> RunState | None:
    """Return what the newest checkpoint remembers, or None where there is no checkpoint.

    Raises:
        InputError: It is damaged.
    """
    newest = newest_checkpoint(run)
    if newest is None:
        return None
    try:
        state = RunState(**json.loads((newest / "state.json").read_text(encoding="utf-8")))
        if state.epoch != _epoch_of(newest) or not _is_sound(state):
            raise ValueError(
                f"state.json does not hold what a checkpoint of epoch {_epoch_of(newest)} does"
            )
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise _damage(newest, error) from None
    return state


def _is_sound(state: RunState) -> bool:
    """Whether each field has its type."""
    counts = state.epoch, state.step, state.phase, state.phase_step, state.stale_epochs
    scores = state.phase_score, state.best_score
    return (
        all(type(count) is int and count >= 0 for count in (*counts, state.best_epoch))
        and all(score is None or isinstance(score, (int, float)) for score in scores)
        and isinstance(state.precision, str)
        and isinstance(state.history, list)
        and all(isinstance(row, dict) for row in state.history)
    )


def newest_checkpoint(run: Path) -> Path | None:
    """Return the folder of the newest complete checkpoint, or None where there is none."""
    found = _checkpoints(run)
    return found[-1] if found else None


def restore(run: Path, state: RunState, model: keras.Model) -> None:
    """Give a model the weights and the optimizer's state of a checkpoint.

    Args:
        run: The run's folder.
        state: Of the checkpoint, from `newest_state`.
        model: Compiled, of the same kind as the one saved.

    Raises:
        InputError: The checkpoint is damaged or another network's.
    """
    folder = _folder_of(run, state.epoch)
    try:
        _bare(model).load_weights(folder / "model.keras")
        with (folder / "training.npz").open("rb") as file, np.load(file) as stored:
            values = [stored[f"arr_{number}"] for number in range(len(stored.files))]
        variables = _variables_beside_weights(model)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise _damage(folder, error) from None


def _variables_beside_weights(model: keras.Model) -> list[keras.Variable]:
    """What a `.keras` file leaves out: dropout's seeds, the optimizer with loss scale, own weights.

    Training's own weights are here where the file has their averages.
    Their order is that of the layers, and the same for every model of the same config; their names
    count the models of the process.
    """
    weights = {id(variable) for variable in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*seeds, *model.optimizer.variables, *own_weights(model)]


def _values_beside_weights(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v) for v in _variables_beside_weights(model)]


def _folder_of(run: Path, epoch: int) -> Path:
    return run / "checkpoints" / f"epoch-{epoch:04d}"


def _epoch_of(folder: Path) -> int:
    return int(folder.name.removeprefix("epoch-"))


def _checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints, oldest first.

    A folder that cannot be read is none without any: the run would begin again and erase its past.
    """
    try:
        found = list((run / "checkpoints").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    named = (f for f in found if f.name.startswith("epoch-") and f.name[6:].isdecimal())
    return sorted(named, key=_epoch_of)


def _publish(best: Path, published: Path) -> None:
    """Put the best network in the run's folder: a file of its own, which others may overwrite."""
    scratch = published.with_name(f"{_UNFINISHED}.keras")
    shutil.copyfile(best, scratch)
    _reach_disk(scratch)
    scratch.replace(published)


def _is_copy(first: Path, second: Path) -> bool:
    if not first.exists():
        return False
    return filecmp.cmp(first, second, shallow=False)


def _write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Write one line an epoch, replacing the file in one step."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names)
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    if path.exists() and path.read_bytes() == content:
        return
    scratch = path.with_suffix(f".{_UNFINISHED}")
    scratch.write_bytes(content)
    scratch.replace(path)


def _remove(folder: Path) -> None:
    """Delete a checkpoint; no part of it keeps its name."""
    if folder.exists():
        doomed = folder.with_name(_REMOVED)
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _clear_scratch(run: Path) -> None:
    for name in (_UNFINISHED, _REMOVED):
        shutil.rmtree(run / "checkpoints" / name, ignore_errors=True)
    for name in (f"{_UNFINISHED}.keras", f"history.{_UNFINISHED}"):
        (run / name).unlink(missing_ok=True)


def _reach_disk(path: Path) -> None:
    """Wait until a file or a folder's list of names has left the memory, for power cuts."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders, and syncs what is writable
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do it for folders; a full disk is another matter.
        if path.is_file():
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)


def _damage(folder: Path, error: Exception) -> InputError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(
        f"{folder} cannot be read ({first_line}): remove this folder to go on from an older "
        "checkpoint, or the whole run folder to start again"
    )
