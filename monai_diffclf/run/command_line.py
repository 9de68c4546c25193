# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What was typed after ``python -m monai.bundle run``, as text and as python-fire makes values of it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fire.parser import DefaultParseValue, SeparateFlagArgs
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import create_workflow
from monai.bundle.scripts import run as run_bundle

__all__ = ["MONAI_OPTIONS", "CommandLine", "Option", "command_line", "read_command_line"]

# Programs whose options are those of a bundle's configuration, and how many words come before them.
_PROGRAMS = {"monai.bundle.__main__": 2, "monai_diffclf.run.__main__": 1}
_COMMANDS = ("run", "run_workflow")
_FLAG = re.compile(r"--|-[a-zA-Z]")

MONAI_OPTIONS = frozenset(
    name
    for function in (run_bundle, create_workflow, ConfigWorkflow.__init__)
    for name, parameter in inspect.signature(function).parameters.items()
    if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
)
"""Options of MONAI itself, such as ``config_file``; all others override a bundle's configuration."""


@dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: its name without hyphens, such as ``dataset_dir`` or ``inferer#num_draws``.
        value: what MONAI is given.
        raw: the text that was typed; None for an option from an ``args_file``, and for one without a value.
        from_file: whether it is from an ``args_file``.
    """

    name: str
    value: Any
    raw: str | None = None
    from_file: bool = False


@dataclass(frozen=True)
class CommandLine:
    """All options, by their names, and the words that belong to none."""

    options: Mapping[str, Option] = field(default_factory=dict)
    words: Sequence[str] = ()

    def value(self, name: str, default: Any = None) -> Any:
        """What was given for an option, ``default`` where it was not."""
        return self.options[name].value if name in self.options else default


def command_line() -> CommandLine | None:
    """The options of this process; None where it is no command that runs a bundle, but Python code that does."""
    program = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "")
    before = _PROGRAMS.get(program)
    if before is None or (before == 2 and sys.argv[1:2] and sys.argv[1] not in _COMMANDS):
        return None
    return read_command_line(sys.argv[before:])


def read_command_line(words: Sequence[str]) -> CommandLine:
    """Take options apart as python-fire does: ``--name value``, ``--name=value``, ``--name`` and ``--noname``.

    Options of an ``args_file`` are added where the command line does not give them. A file that cannot be read is left
    to MONAI.

    Args:
        words: the command line after the program and its command.

    Example:
        >>> line = read_command_line(["--num_draws", "9", "--dataset_dir=2024", "--nomaps"])
        >>> [(option.name, option.value, option.raw) for option in line.options.values()]
        [('num_draws', 9, '9'), ('dataset_dir', 2024, '2024'), ('maps', False, None)]
    """
    rest, others, options = list(SeparateFlagArgs(list(words))[0]), [], {}
    while rest:
        word = rest.pop(0)
        if not _FLAG.match(word):
            others.append(word)
            continue
        name, equals, text = word.lstrip("-").partition("=")
        name, raw = name.replace("-", "_"), text if equals else None
        if not equals and rest and not _FLAG.match(rest[0]):
            raw = rest.pop(0)
        value = True if raw is None else DefaultParseValue(raw)
        if raw is None and name.startswith("no") and name not in MONAI_OPTIONS:
            name, value = name[2:], False
        options[name] = Option(name, value, raw)
    return CommandLine({**_from_file(options.get("args_file")), **options}, others)


def _from_file(option: Option | None) -> dict[str, Option]:
    if option is None:
        return {}
    try:
        content = dict(ConfigParser.load_config_file(option.value))
    except Exception:  # whatever a file may hold; MONAI reads it too, and says what is wrong
        return {}
    return {name: Option(name, value, from_file=True) for name, value in content.items()}
