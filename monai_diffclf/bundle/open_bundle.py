# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Open a bundle: its configuration as MONAI's command would read it, with a run's weights and settings of one's own."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from .._class_names import class_names
from .._finding_files import finding_file
from .._text_path import text_path

# Registers the noise schedules that configurations name.
from ..networks import schedulers as _schedulers  # noqa: F401
from ..networks.model_description import read_model_note
from .agreement import check_agreement
from .opened import Bundle
from .plain_values import check_plain, plain_value
from .shipped import find_bundle

__all__ = ["open_bundle"]

DECISION = ("rule", "weighting", "temperature")
"""How an inferer makes a class of its errors: what is kept with an evaluation, and with what is fitted to it."""


def open_bundle(
    bundle: str | os.PathLike[str], *files: str, run: str | os.PathLike[str] | None = None, **settings: Any
) -> Bundle:
    """A bundle, set as ``python -m monai.bundle run`` sets it, from any working folder.

    Args:
        bundle: its folder, or the name of a shipped one.
        files: files of its folder ``configs``, what a later one says holds; by default ``inference.json``.
        run: folder of a training, whose weights are taken, and with them the classes in their order, the images'
            channels and size and the network's settings (``model.json``); and what was fitted to it
            (``uncertainty.json``) with its number of draws and, for inference, the rule, weighting and temperature that
            it was fitted with. Where nothing was, `Bundle.calibrated` is False and `Bundle.notes` says so.
        settings: other values by their ids, such as ``num_draws=9`` or ``**{"inferer#seed": 3}``: plain values, no
            expressions or components. A path may be text or a `pathlib.Path`.

    Raises:
        TypeError: when a path is none.
        ValueError: when there is no such bundle, file, run or setting, a text would be evaluated by MONAI, or the
            bundle's files do not agree.

    Example:
        >>> bundle = open_bundle("phantom_xray_diffusion", num_draws=5, device="cpu")
        >>> bundle.classes, bundle.channels, bundle.image_size, bundle.inferer.num_draws
        (['clear', 'lesion'], 1, (32, 32), 5)
    """
    root = find_bundle(bundle)
    paths = _paths(root, files)
    check_agreement(root)
    parser = ConfigParser()
    parser.read_config(paths)
    _set(parser, "bundle_root", str(root))
    notes: list[str] = []
    folder = None if run is None else _run_folder(run)
    if folder is not None:
        notes += _take_run(parser, folder, said=_top(paths[1:]))
    for name, value in settings.items():
        _set(parser, name, plain_value(name, value))
    return Bundle(root=root, parser=parser, run=folder, notes=tuple(notes))


def _paths(root: Path, files: tuple[str, ...]) -> list[str]:
    """Whole paths of configuration files, each checked."""
    paths = []
    for name in files or ("inference.json",):
        path = root / "configs" / text_path(name, "files")
        if not path.is_file():
            known = sorted(each.name for each in path.parent.glob("*.json"))
            near = difflib.get_close_matches(path.name, known, n=1) or known
            raise ValueError(f"files: expected a file of {root / 'configs'}, such as {near[0]}, got {name}")
        try:
            ConfigParser.load_config_file(path)
        except json.JSONDecodeError as error:
            raise ValueError(f"files: {path} is no JSON: line {error.lineno}: {error.msg}") from error
        paths.append(str(path))
    return paths


def _set(parser: ConfigParser, name: str, value: Any) -> None:
    """Set a value that a configuration has, or an argument of a component that it has."""
    check_plain(name, value)
    *parents, last = ReferenceResolver.normalize_id(name).split("::")
    parent = parser.get("::".join(parents)) if parents else parser.get()
    known = list(parent) if isinstance(parent, Mapping) else []
    is_argument = bool(parents) and isinstance(parent, Mapping) and "_target_" in parent
    in_list = isinstance(parent, list) and last.isdigit() and int(last) < len(parent)
    if not (last in known or is_argument or in_list or name == "bundle_root"):
        near = difflib.get_close_matches(last, known, n=1)
        hint = f"; did you mean {'#'.join([*parents, near[0]])}?" if near else ""
        raise ValueError(f"settings: the configuration has no {name}{hint}")
    parser[ReferenceResolver.normalize_id(name)] = value


def _run_folder(run: str | os.PathLike[str]) -> Path:
    folder = text_path(run, "run").expanduser().resolve()
    if not (folder / "model.pt").is_file():
        more = "; go on with it until its first validation" if (folder / "checkpoint.pt").is_file() else ""
        raise ValueError(f"run: expected the folder of a training, which holds model.pt, got {folder}{more}")
    return folder


def _top(paths: list[str]) -> set[str]:
    """The ids that configuration files say something of, at their top."""
    return {name for path in paths for name in ConfigParser.load_config_file(path)}


def _take_run(parser: ConfigParser, run: Path, *, said: set[str]) -> list[str]:
    """Set what a run says of its weights; returns what could not be taken.

    Args:
        parser: the configuration.
        run: folder of the run.
        said: ids of the files that were laid over, such as ``few_draws.json``, which decide as these say.
    """
    notes = []
    model = read_model_note(run / "model.pt").get("model") or {}
    if not model:
        notes.append(f"{run} has no model.json: classes, channels and size are those of the bundle")
    values = {name: model[name] for name in ("classes", "channels", "image_size") if name in model}
    if "classes" in values:
        values["classes"] = class_names(values["classes"])
    values["checkpoint"] = str(run / "model.pt")
    values["resize"] = True  # whatever size the training's images had in their files
    of_fit, decision, remark = _fitted(parser, run)
    values |= of_fit | {name: value for name, value in decision.items() if name not in said}
    notes += remark
    for name in ("decision", "deferral"):
        if (run / f"{name}.json").is_file():
            values[name] = str(run / f"{name}.json")
    for name, value in values.items():
        if name in parser:
            _set(parser, name, value)
    _take_network(parser, (model.get("network") or {}).get("settings") or {})
    return notes


def _fitted(parser: ConfigParser, run: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What was fitted to a run, with its draws; how it decides, for inference; and a note where nothing was."""
    name, path = ("fitted", run / "findings") if "fitted" in parser else ("uncertainty", run / "uncertainty.json")
    if path.exists():
        draws, decision = _fitted_with(finding_file(path, 0) if name == "fitted" else path)
        of_fit = {name: str(path)} | ({} if draws is None else {"num_draws": draws})
        return of_fit, decision if "calibrated" in parser else {}, []
    if "calibrated" not in parser:
        return {}, {}, []
    return {"calibrated": False}, {}, [f"{run} has no {path.name}: probabilities are not calibrated; fit it"]


def _fitted_with(path: Path) -> tuple[int | None, dict[str, Any]]:
    """The draws that what was fitted holds for, None where the file says none; how it decides, where that is said."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"run: {path} is no JSON ({error}); fit the run again") from None
    rules = content.values() if isinstance(content, dict) else ()
    found = {(rule.get("provenance") or {}).get("num_draws") for rule in rules if isinstance(rule, dict)}
    draws = [number for number in found if isinstance(number, int) and number > 0]
    settings = content.get("settings") if isinstance(content, dict) else None
    decision = {name: settings[name] for name in DECISION if name in settings} if isinstance(settings, dict) else {}
    # They go into the configuration, where a text may be an expression: a file of results is not to bring one.
    if not all(isinstance(value, int | float) or str(value).isidentifier() for value in decision.values()):
        raise ValueError(f"run: expected rule and weighting by name and temperature as a number in {path}; fit it anew")
    return draws[0] if len(draws) == 1 else None, decision


def _take_network(parser: ConfigParser, settings: Mapping[str, Any]) -> None:
    """Set what a run's network was built with, such as its channels, in the component that makes it."""
    network = parser.get("model_description::network", "")
    component = parser.get(network.removeprefix("@")) if isinstance(network, str) else None
    if not isinstance(component, dict):
        return
    for name, value in settings.items():
        if name in component:
            check_plain(f"network#{name}", value)
            component[name] = value
