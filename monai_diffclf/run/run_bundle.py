# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Run a bundle's configuration within this process, as ``python -m monai.bundle run`` does in one of its own."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow
from tqdm import tqdm

from ..bundle import find_bundle
from ..bundle.plain_values import check_plain, plain_value
from .command_line import MONAI_OPTIONS, CommandLine, Option
from .options import settle_options
from .running import running

__all__ = ["option_words", "run_bundle", "settle"]

_OTHERS = ("monai.bundle.workflows", "ignite")


def run_bundle(
    bundle: str | os.PathLike[str],
    files: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    *,
    typed: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    ready: Callable[[ConfigParser], None] | None = None,
    progress: bool = True,
) -> ConfigParser:
    """Run a bundle as a command does: options are checked, its output folder is held, errors are raised.

    Args:
        bundle: its folder, or the name of a shipped one.
        files: files of its folder ``configs``; what a later one says holds.
        settings: plain values by their ids; None is not given.
        typed: further values as somebody typed them, such as ``{"batch_size": "16"}``.
        names: what an error calls an id, where that is not ``--set ID``: ``{"max_epochs": "--epochs"}``.
        ready: called with the configuration when all has been checked and the output folder is held, before the run.
        progress: whether to show bars.

    Returns:
        the configuration, with what was made of it.

    Raises:
        ValueError: when a setting is unknown or of another kind than its default; and what the bundle itself refuses.
    """
    root = find_bundle(bundle)
    values = {"bundle_root": root, "progress": progress, **(settings or {})}
    checked = settle(root, files, values, typed or {}, names or {})
    paths = [str(root / "configs" / name) for name in files]
    with running(), plain_messages(), _path_unchanged():
        workflow = ConfigWorkflow(config_file=paths, logging_file=False, workflow_type=None, **checked)
        workflow.initialize()
        if ready is not None:
            ready(workflow.parser)
        workflow.run()
        workflow.finalize()
    return workflow.parser


def settle(
    root: Path, files: Sequence[str], settings: Mapping[str, Any], typed: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, Any]:
    """What to set in a bundle's configuration, checked as the options of a command are.

    Raises:
        ValueError: see `run_bundle`.
    """
    for name in files:
        if not (root / "configs" / name).is_file():
            raise ValueError(f"bundle: {root.name} has no configs/{name}, which this command needs")
    for name in typed:
        if name in MONAI_OPTIONS:
            raise ValueError(f"--set {name}: no such setting; it is an option of MONAI's own command")
    options = {name: _of_value(name, value) for name, value in settings.items() if value is not None}
    options |= {name: Option(name, DefaultParseValue(text), text) for name, text in typed.items()}
    files_option = Option("config_file", [str(root / "configs" / name) for name in files])
    try:
        meant = settle_options(CommandLine({"config_file": files_option, **options}))
    except ValueError as error:
        raise ValueError(_as_settings(str(error), names)) from None
    settled = {name: option.value for name, option in options.items()} | meant
    for name in typed:  # which may come from a run's folder that somebody else has made
        check_plain(f"--set {name}", settled[name])
    return settled


def option_words(settings: Mapping[str, Any]) -> list[str]:
    """Checked settings as words of a command line, as python-fire reads them back.

    Example:
        >>> option_words({"max_epochs": 3, "classes": ["a", "b"], "dataset_dir": "2024"})
        ['--max_epochs=3', "--classes=['a', 'b']", '--dataset_dir=2024']
    """
    return [f"--{name}={value if isinstance(value, str) else repr(value)}" for name, value in settings.items()]


def _of_value(name: str, value: Any) -> Option:
    plain = plain_value("path" if name == "device" else name, value)
    return Option(name, plain, plain if isinstance(plain, str) else None)


def _as_settings(text: str, names: Mapping[str, str]) -> str:
    """A message about options of a configuration, as one about the options of a command."""

    def rename(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        return names[name] + value if name in names else f"--set {name}" + value.replace(" ", "=", 1)

    renamed = re.sub(r"(?<![\w-])--(\w[\w#]*)(?=[\s:;?,.]|$)( (?:True|False|\"))?", rename, text)
    return renamed.replace("no such option", "no such setting")


@contextmanager
def plain_messages() -> Iterator[None]:
    """Within it the package's log messages are plain lines on stderr; how MONAI and Ignite do is not shown."""
    ours, theirs = logging.getLogger("monai_diffclf"), [logging.getLogger(name) for name in _OTHERS]
    before = [(logger, logger.level, logger.propagate) for logger in (ours, *theirs)]
    handler = _BetweenBars()
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    for logger in theirs:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate


class _BetweenBars(logging.Handler):
    """Writes messages so that no progress bar is torn."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(record.getMessage(), file=sys.stderr)


@contextmanager
def _path_unchanged() -> Iterator[None]:
    """Take off what MONAI adds to the places where Python looks for modules."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
