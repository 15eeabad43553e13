"""One experiment, from source to export: one YAML, `key.path=value` overrides, checked as a whole.

`load(path, overrides)` merges the defaults of `settings`, the file and the overrides, in this
order, and checks names, types and what fields demand of each other. `save(config, path)` writes
the result; loading it again gives an equal config. Paths are relative to the working directory.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from unet_keras.errors import InputError
from unet_keras.settings import (
    Augmentation,
    Evaluate,
    Loss,
    Model,
    Pipeline,
    Records,
    Source,
    Targets,
    Train,
    demand,
)
from unet_keras.settings.checks import is_text

_SHOWN_CHARACTERS = 80
_PATHS = (
    "source.images", "source.annotations", "source.lists", "records.path", "train.run_dir",
    "train.start_from",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """A whole experiment; the defaults train on synthetic cells within minutes on two cores.

    Each section is documented in `settings`.

    Attributes:
        seed: Decides all that is drawn at random, in [0, 2^31).

    Raises:
        InputError: Fields of several sections do not go together.
    """

    seed: int = 0
    source: Source = field(default_factory=Source)
    targets: Targets = field(default_factory=Targets)
    records: Records = field(default_factory=Records)
    pipeline: Pipeline = field(default_factory=Pipeline)
    augment: Augmentation = field(default_factory=Augmentation)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)

    def __post_init__(self) -> None:
        demand(0 <= self.seed < 2**31, f"seed={self.seed} must be in [0, 2^31)")
        demand(
            self.loss.border_weight == 0 or "border" in self.records.maps,
            f"loss.border_weight={self.loss.border_weight} needs the border map, but "
            f"records.maps={list(self.records.maps)}: add border or set loss.border_weight=0",
        )
        demand(
            self.loss.distance == 0 or "distance" in self.records.maps,
            f"loss.distance={self.loss.distance} needs the distance map, but "
            f"records.maps={list(self.records.maps)}: add distance or set loss.distance=0",
        )
        demand(
            self.loss.distance == 0 or self.targets.kind != "boundary",
            f"loss.distance={self.loss.distance} needs a network that finds cells, not "
            "targets.kind=boundary: give targets.kind=cells or cells_and_borders",
        )
        demand(
            self.targets.kind != "cells_and_borders" or self.evaluate.method == "watershed",
            f"evaluate.method={self.evaluate.method} would join cells at their outlines, which "
            "targets.kind=cells_and_borders counts among them: set evaluate.method=watershed",
        )


def load(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment.

    Args:
        path: A YAML file with what differs from the defaults; none for the defaults.
        overrides: `key.path=value` each, the value as YAML has it, texts as they are; list elements
            by number, `train.phases.0.epochs=3`.

    Returns:
        The resolved, checked config.

    Raises:
        InputError: No such file, no YAML, an unknown key, a wrong type or value.
    """
    # Merged without types first: overrides of list elements need a writable container.
    values = _plain(_schema())
    if path is not None:
        _update(values, _read_yaml(Path(path)))
    merged = _container(values, path)
    for override in overrides:
        key, separator, text = override.partition("=")
        demand(separator == "=" and key != "", f"{override!r} is no override: write key.path=value")
        try:
            value = _value(key, text)
            # A word may take the place of a list, into which it cannot be merged.
            OmegaConf.update(merged, key, value, merge=isinstance(value, Container))
        except IndexError:
            raise InputError(
                f"{override}: there is no such element; the first has the number 0"
            ) from None
        except (OmegaConfBaseException, TypeError, yaml.YAMLError) as error:
            raise InputError(f"{override}: {_one_line(error)}{_example(key)}") from None
    try:
        for key in _PATHS:
            _complete_path(merged, key)
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(_schema(), merged)))
    except (OmegaConfBaseException, TypeError) as error:
        if isinstance(error, InterpolationResolutionError):
            culprit = f"{error.full_key}: {_one_line(error)}; ${{oc.env:NAME}} is the shell's $NAME"
        else:
            culprit = _culprit(_plain(merged), error)
        overridden = any(culprit.startswith(each.partition("=")[0]) for each in overrides)
        origin = "" if path is None or overridden else f"{path}: "
        raise InputError(f"{origin}{culprit}") from None


def _container(values: dict[str, Any], path: Path | str | None) -> DictConfig:
    try:
        return OmegaConf.create(values)
    except OmegaConfBaseException as error:  # of keys that are no names, and the like
        raise InputError(f"{path}: {_one_line(error)}") from None


def _complete_path(merged: DictConfig, key: str) -> None:
    """Put the home folder in place of `~`, which shells leave as it is in key=~/folder."""
    value = OmegaConf.select(merged, key)
    if str(value).startswith("~/"):
        OmegaConf.update(merged, key, str(Path(value).expanduser()))
    demand(is_text(str(value)), f"{key}={value!r} is no text in UTF-8: give another name")


def save(config: Config, path: Path) -> None:
    """Write the resolved config as YAML; `load` gives an equal one back."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")


def differences(first: Config, second: Config) -> list[str]:
    """Return `key: value != value` for every key in which two configs differ."""
    one, two = flatten(first), flatten(second)
    return [
        f"{key}: {one.get(key)} != {two.get(key)}"
        for key in sorted(one.keys() | two.keys())
        if one.get(key) != two.get(key)
    ]


def _value(key: str, text: str) -> Any:
    """Read an override's value as YAML; of a key that holds text, as it is, unless quoted."""
    if isinstance(flatten(Config()).get(key), str) and text[:1] not in ("'", '"'):
        return text
    return OmegaConf.from_dotlist([f"value={text}"])["value"]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.load(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such config file; configs/ has examples, and without a file "
            "the built-in synthetic experiment runs"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, but a YAML file was expected") from None
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"{path} is no YAML: {_one_line(error)}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        content = None  # a number or the like
    text = path.read_text(encoding="utf-8")
    # OmegaConf makes a key of text that has none, such as a script's.
    if not isinstance(content, DictConfig) or isinstance(yaml.safe_load(text), str):
        first = text.strip().partition("\n")[0]
        raise InputError(
            f"{path} holds no keys such as `seed: 0`, but a list or a single value; it begins with "
            f"{first[:_SHOWN_CHARACTERS]!r}"
        )
    return _plain(content)


def _schema() -> DictConfig:
    return cast(DictConfig, OmegaConf.structured(Config))


def _plain(container: Container) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(container))


def _update(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _update(values[key], change)
        else:
            values[key] = change


def _culprit(values: dict[str, Any], error: Exception) -> str:
    """Return one line naming the first key that does not fit alone, its value and its default.

    OmegaConf's own message leaves out the key for tuples and for elements of lists.
    """
    schema = _schema()
    default: Any = _plain(schema)
    name, value, cause = "", values, error

    def change(keys: Sequence[str], inner: Any) -> Any:
        for key in reversed(keys):
            inner = [inner] if key.isdecimal() else {key: inner}
        return inner

    keys: list[str] = []
    while True:
        for key, inner in _parts(value):
            refusal = _refusal(schema, change([*keys, key], inner))
            if refusal is not None:
                break
        else:
            break
        keys.append(key)
        name, value, cause = ".".join(keys), inner, refusal
        default = dict(_parts(default)).get(key)
    if not keys:
        return _one_line(error)
    nested = _nested(name)
    if len(keys) == 1 and nested:
        return f"{name}={value}: there is no such key at the top; did you mean {nested}?"
    if isinstance(default, dict):
        return f"{name}={value}: a section is expected, with keys such as {next(iter(default))}"
    hint = f" (the default is {name}={default})" if default is not None else ""
    return f"{name}={value}: {_one_line(cause)}{hint}"


def _nested(name: str) -> str:
    """The only key of a section with a name that is none of the top; empty where none is sole."""
    known = flatten(Config())
    found = [key for key in known if key.rpartition(".")[2] == name]
    at_top = any(key.partition(".")[0] == name for key in known)
    return found[0] if len(found) == 1 and not at_top else ""


def _example(key: str) -> str:
    """Show a key that takes several values with its default; nothing for other keys."""
    known = flatten(Config())
    parent, _, element = key.rpartition(".")
    key = parent if element.isdecimal() and parent in known else key
    default = known.get(key)
    if not isinstance(default, list | tuple) or not default:
        return ""
    return f", such as {key}=[{','.join(map(str, default))}]"


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return what can be refused by itself: a section's keys, and elements that are such."""
    if isinstance(value, dict):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, list) and all(isinstance(inner, dict) for inner in value):
        return [(str(number), inner) for number, inner in enumerate(value)]
    return []


def _refusal(schema: DictConfig, change: dict[str, Any]) -> Exception | None:
    """Return why a change cannot be merged into the schema, if so."""
    try:
        OmegaConf.merge(schema, change)
    except (OmegaConfBaseException, TypeError) as cause:
        return cause
    return None


def _one_line(error: Exception) -> str:
    """Return the message without OmegaConf's further lines about where it happened."""
    text = str(error).split("\n    full_key")[0].split("\n    object_type")[0]
    text = text.replace("Value '$VALUE' of type '$VALUE_TYPE'", "an element")
    text = text.replace("Cannot merge incompatible container types", "a section is expected")
    text = text.replace("TupleConfig is immutable", "give all of its values, in brackets")
    text = re.sub(
        r"Invalid value assigned: \w+ is not a TupleConfig, ListConfig, list, or tuple\.?",
        "several values in brackets are expected", text,
    )  # fmt: skip
    text = re.sub(
        r"TupleConfig length (\d+) does not match type hint length (\d+)",
        r"it has \1 numbers, expected \2", text,
    )  # fmt: skip
    return " ".join(text.split())


def flatten(config: Config) -> dict[str, object]:
    """Return all values by their dotted keys, such as `train.optimizer.average`."""
    flat: dict[str, object] = {}

    def visit(prefix: str, value: object) -> None:
        parts = _parts(value)
        for key, inner in parts:
            visit(f"{prefix}.{key}" if prefix else key, inner)
        if not parts:
            flat[prefix] = value

    visit("", _plain(OmegaConf.structured(config)))
    return flat


def value_in(override: str, key: str) -> Any:
    """What an override gives a key, be it `evaluate.split=val` or `evaluate={split: val}`.

    None where it gives none, or cannot be read, which is told where it is loaded.
    """
    try:
        return OmegaConf.select(OmegaConf.from_dotlist([override]), key)
    except (OmegaConfBaseException, yaml.YAMLError):
        return None
