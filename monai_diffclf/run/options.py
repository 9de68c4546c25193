# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Refuse options that a bundle's configuration does not know, and values that are not what was meant."""

from __future__ import annotations

import difflib
import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..bundle.plain_values import usable_device
from .command_line import MONAI_OPTIONS, CommandLine, Option
from .default_kinds import Kind, find_default, kind_of_default, split_id

__all__ = ["as_yes_or_no", "read_config", "settle_options", "settle_value"]

# Of MONAI's experiment tracking.
_TRACKING = {"tracking_uri", "experiment_name", "run_name", "save_execute_config"}
_CODE = ("$", "@", "%")
# MONAI's options that name a part of the configuration, and the part that they name by default.
_PARTS_RUN = {"init_id": "initialize", "run_id": "run", "final_id": "finalize"}
# Of these there must be one at least.
_COUNTS = {"max_epochs", "batch_size", "val_interval", "val_draws", "num_draws", "image_batch", "network_batch"}
# What fits, tables and stopping rules are looked up by, beside the classifier that takes it.
_SAID_ONCE = {"rule", "weighting", "temperature", "prior"}
_YES_OR_NO = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


def read_config(files: Any) -> dict[str, Any]:
    """The configuration of some files, the later ones over the earlier.

    Args:
        files: a path, or several.

    Raises:
        ValueError: when there is none, or it cannot be read.
    """
    paths = [str(path) for path in (files if isinstance(files, (list, tuple)) else [files]) if path]
    if not paths:
        raise ValueError("--config_file: expected a configuration file, such as configs/inference.json, got none")
    for path in paths:
        if not os.path.isfile(path):
            near = _nearest(Path(path).name, [p.name for p in Path(path).parent.glob("*.json")])
            hint = near or "; run from a bundle's folder"
            raise ValueError(f"--config_file: expected a file, but there is no {path}{hint}")
    for path in paths:
        try:
            ConfigParser.load_config_file(path)
        except json.JSONDecodeError as error:
            raise ValueError(f"--config_file: {path} is no JSON: line {error.lineno}: {error.msg}") from error
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"--config_file: cannot read {path}: {error}") from error
    try:
        return dict(ConfigParser.load_config_files(paths))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"--config_file: {', '.join(paths)} do not go together: one changes a part that none before it has "
            f"({str(error.args[0]).splitlines()[0]})"
        ) from error


def settle_options(line: CommandLine) -> dict[str, Any]:
    """What is meant by a command line's options, where MONAI would take them for something else.

    Returns:
        the values that differ from those that MONAI was given, by the options' names.

    Raises:
        ValueError: naming the first option that the configuration does not have, and what is near it, or whose value
            is of another kind than its default.
    """
    files = line.value("config_file")
    config = read_config(files)
    for word in line.words:
        if word not in config:
            raise ValueError(
                f"{word}: expected options such as --name value, got a word that belongs to none; put a value with "
                "spaces in quotes"
            )
    meant: dict[str, Any] = {}
    for option in line.options.values():
        name = option.name
        if name in _PARTS_RUN:
            _check_part(config, option)
        if name in MONAI_OPTIONS or name in _TRACKING or name.startswith("_meta_"):
            continue
        if _check_name(config, option, files):
            value = settle_value(option, kind_of_default(config, name), find_default(config, name))
            # As text, which tells 1 from True.
            if repr(value) != repr(option.value):
                meant[name] = value
    return meant


def _check_part(config: Mapping[str, Any], option: Option) -> None:
    """Refuse a part to run that there is not: MONAI would run nothing and say nothing."""
    value = str(option.value)
    if value not in config:
        known = [name for name, part in config.items() if isinstance(part, list)]
        near = _nearest(value, known) or f", such as {', '.join(p for p in _PARTS_RUN.values() if p in config)}"
        raise ValueError(f"--{option.name}: expected the name of a part of the configuration, got {value}{near}")


def _check_name(config: Mapping[str, Any], option: Option, files: Any) -> bool:
    """Whether the configuration has a default for an option.

    Raises:
        ValueError: when there is no such option, or it would say otherwise what has an option of its own.
    """
    name = option.name
    *holder, whole = split_id(name)
    if whole in _SAID_ONCE and whole in config and _is_inferer(config, "#".join(holder)):
        raise ValueError(
            f"--{name}: expected --{whole}, by which calibrations and other fits are looked up as well; with "
            f"--{name} alone those of another classifier would be taken"
        )
    try:
        find_default(config, name)
    except KeyError as error:
        parent = str(error.args[0])
    else:
        return True
    parts = split_id(name)
    within = find_default(config, parent) if parent else config
    missing = parts[len(split_id(parent)) if parent else 0]
    known = [str(key) for key in within] if isinstance(within, Mapping) else []
    if isinstance(within, Mapping) and "_target_" in within and missing == parts[-1]:
        arguments, any_other = _arguments(str(within["_target_"]))
        if any_other or missing in arguments:  # an unknown one is refused by what takes it
            return False
        known += arguments
    where = f" of {parent}" if parent else ""
    near = _nearest(missing, known, prefix=f"--{parent}#" if parent else "--")
    typed = f"no{name}" if option.value is False and option.raw is None and not option.from_file else name
    raise ValueError(f"--{typed}: no such option{where}{near}{_elsewhere(name, files)}")


def _is_inferer(config: Mapping[str, Any], name: str) -> bool:
    """Whether an id is that of a classifier."""
    try:
        holder = find_default(config, name)
    except KeyError:
        return False
    return isinstance(holder, Mapping) and str(holder.get("_target_", "")).endswith("Inferer")


def _arguments(target: str) -> tuple[list[str], bool]:
    """Names of what a component takes, and whether it takes any name."""
    try:
        parameters = inspect.signature(locate(target)).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError, ImportError):  # an expression, or nothing that can be looked at
        return [], True
    return [each.name for each in parameters], any(each.kind is each.VAR_KEYWORD for each in parameters)


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    # Without regard to case: "Rule" is near to "rule".
    names = {each.lower(): each for each in known if not each.startswith("_")}
    found = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {prefix}{names[found[0]]}?" if found else ""


def _elsewhere(name: str, files: Any) -> str:
    """Which other configurations of the bundle have this option."""
    paths = [Path(str(path)) for path in (files if isinstance(files, (list, tuple)) else [files])]
    having = []
    for path in sorted(paths[0].parent.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if path.name not in {each.name for each in paths} and isinstance(content, dict) and "_target_" not in content:
            having += [path.name] if split_id(name)[0] in content else []
    used = ", ".join(path.name for path in paths)
    return f" ({', '.join(having)} has it, {used} has not)" if having else ""


def settle_value(option: Option, kind: Kind, default: Any) -> Any:
    """The value that is meant, of the kind of the default.

    Text that python-fire took for something else is taken as it was typed, and yes, no, on, off, true and false are
    understood, where this can be handed to MONAI: not for a part of a component, ``a#b``.

    Raises:
        ValueError: when it is of another kind, with what to write instead.

    Example:
        >>> settle_value(Option("dataset_dir", 2024, "2024"), Kind.PATH, "data")
        '2024'
        >>> settle_value(Option("resize", "no", "no"), Kind.YES_OR_NO, True)
        False
        >>> settle_value(Option("resize", 2, "2"), Kind.YES_OR_NO, True)
        Traceback (most recent call last):
        ValueError: --resize: expected True or False, got 2
    """
    name, value = option.name, option.value
    if value is None:
        if default is None:
            return None
        raise ValueError(
            f"--{name}: expected {_said(kind)}, got None, which MONAI takes for not given; leave it out, or set it to "
            "null in a configuration file of your own"
        )
    if kind in (Kind.PATH, Kind.TEXT, Kind.LIST) and not option.from_file:
        _check_no_code(option, kind)
    if kind in (Kind.PATH, Kind.TEXT):
        return value if option.from_file and _is_code(value) else _settle_text(option, kind)
    if _is_code(value):
        return value
    if kind is Kind.DEVICE:
        return _settle_device(option)
    if kind is Kind.YES_OR_NO and not _is_part(name):
        value = as_yes_or_no(value)
    if not _is_of_kind(value, kind):
        shown = option.value if option.raw is None else option.raw
        raise ValueError(f"--{name}: expected {kind.value}, got {shown}{_remedy(option, kind, default)}")
    if name in _COUNTS and isinstance(value, int) and value < 1:
        raise ValueError(f"--{name}: expected 1 or more, got {value}")
    return value


def _settle_device(option: Option) -> torch.device:
    if _is_part(option.name):
        raise ValueError(
            f"--{option.name}: expected a device of this machine, such as cpu or cuda:0, got {option.value} "
            "(not for a part)"
        )
    return usable_device(f"--{option.name}", option.value)


def as_yes_or_no(value: Any) -> Any:
    """True or False for a word that means it; anything else as it is."""
    return _YES_OR_NO.get(value.lower(), value) if isinstance(value, str) else value


def _said(kind: Kind) -> str:
    return "a value" if kind is Kind.ANYTHING else kind.value


def _is_part(name: str) -> bool:
    return len(split_id(name)) > 1


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_CODE)


def _is_of_kind(value: Any, kind: Kind) -> bool:
    if kind is Kind.YES_OR_NO:
        return isinstance(value, bool)
    if kind in (Kind.WHOLE_NUMBER, Kind.NUMBER):
        wanted = int if kind is Kind.WHOLE_NUMBER else (int, float)
        return isinstance(value, wanted) and not isinstance(value, bool)
    return kind is not Kind.LIST or isinstance(value, (list, tuple))


def _remedy(option: Option, kind: Kind, default: Any) -> str:
    meant = as_yes_or_no(option.value)
    if kind is Kind.YES_OR_NO and isinstance(meant, bool):
        return f"; write --{option.name} {meant}"
    if kind is Kind.LIST and isinstance(default, list):
        return f'; write it as --{option.name} "{default}"'
    return ""


def _check_no_code(option: Option, kind: Kind) -> None:
    """Refuse text that MONAI would evaluate, alone or in a list."""
    for text in _texts(option.value):
        if text.startswith(_CODE):
            fix = f"for a name that begins so write ./{text}" if kind is Kind.PATH else "choose another text"
            raise ValueError(
                f"--{option.name}: expected {kind.value}, but {text} begins with {text[0]}, which MONAI would take for "
                f"code or a reference; {fix}, or put code into a configuration file of your own"
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for entry in value.values() for text in _texts(entry))
    elif isinstance(value, (list, tuple, set)):
        yield from (text for entry in value for text in _texts(entry))


def _settle_text(option: Option, kind: Kind) -> str:
    """Text as it was typed, whatever python-fire made of it."""
    name, value, raw = option.name, option.value, option.raw
    if value == "" and kind is Kind.PATH:
        raise ValueError(f"--{name}: expected a path, got an empty text; for the current folder write .")
    if raw is None:
        if not isinstance(value, str):
            hint = (
                "; a name that begins with - is written ./-name" if kind is Kind.PATH and not option.from_file else ""
            )
            got = "no value" if value is True and not option.from_file else repr(value)
            raise ValueError(f"--{name}: expected {kind.value}, got {got}{hint}")
        return value
    quoted = raw.strip()[:1] in ("'", '"')
    if isinstance(value, str) and (value == raw or quoted):
        return value
    if _is_part(name):
        fix = f"./{raw}" if kind is Kind.PATH else f"\"'{raw}'\""
        raise ValueError(f"--{name}: expected {kind.value}, but {raw} is taken for something else; write {fix}")
    return raw
