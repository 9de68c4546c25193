# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The configuration of a generative bundle, of which only what its parts need is evaluated."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigExpression

from .._class_names import shown
from .._text import joined
from ..bundle.plain_values import check_plain
from ..networks import import_generative

__all__ = ["ZooConfig", "read_config", "texts"]

_FILES = ("inference", "infer")
_SUFFIXES = (".json", ".yaml", ".yml")
_REFERENCE = re.compile(r"@(\w+)")
_WANTED = "wanted_"
_BOUND = re.compile(r"^\$\s*(?:from\s+\S+\s+)?import\s+(\w+)(?:[\w.]*)(?:\s+as\s+(\w+))?")


@dataclass(frozen=True)
class ZooConfig:
    """The configuration of a bundle as it is written.

    Args:
        root: the bundle's folder.
        path: the configuration file.
        content: what it says.
    """

    root: Path
    path: Path
    content: Mapping[str, Any]

    def evaluate(self, wanted: Any) -> Any:
        """What MONAI makes of a piece of configuration, an expression or a component, and of all it refers to.

        Everything else in the file is left alone; what is made is on the CPU.

        Raises:
            ValueError: with what was raised first, in one line.
        """
        needed = self._closure(wanted)
        content = {name: _without_requirements(self.content[name]) for name in needed if name in self.content}
        content |= {"bundle_root": str(self.root), _WANTED: _without_requirements(wanted)}
        if "device" in content:
            content["device"] = torch.device("cpu")
        text = " ".join(texts(content))
        listed = self.content.get("imports") or []
        content["imports"] = [each for each in listed if isinstance(each, str) and _is_used(each, text)]
        if "generative." in text:
            import_generative()
        try:
            with own_modules(self.root):
                return ConfigParser(content).get_parsed_content(_WANTED)
        except Exception as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            said = joined(cause) or type(cause).__name__
            raise ValueError(f"bundle: {self.path} cannot be evaluated: {shown(said, 300)}") from error

    def expanded(self, text: str, kept: frozenset[str], depth: int = 0) -> str:
        """An expression with those that it refers to in their places, but for some ids that are kept."""

        def put(found: re.Match[str]) -> str:
            value = self.content.get(found[1])
            inner = isinstance(value, str) and value[:1] in "$@" and not ConfigExpression.is_import_statement(value)
            if found[1] in kept or not inner or depth > 20:
                return found[0]
            return f"({self.expanded(str(value).removeprefix('$'), kept, depth + 1)})"

        return _REFERENCE.sub(put, text)

    def _closure(self, wanted: Any) -> list[str]:
        """Ids that a piece of configuration refers to, and those that these refer to."""
        found: dict[str, None] = {}
        waiting = [wanted]
        while waiting:
            for text in texts(_without_requirements(waiting.pop())):
                for name in _REFERENCE.findall(text):
                    if name not in found:
                        found[name] = None
                        waiting.append(self.content.get(name))
        return list(found)


def read_config(bundle: Path, file: str | None = None) -> ZooConfig:
    """The configuration for inference of a bundle; a ``common`` file beside it is read first, as older bundles have it.

    Args:
        bundle: the bundle's folder.
        file: name of the file in its ``configs``; None for ``inference`` or ``infer``, JSON or YAML.

    Raises:
        ValueError: when there is no such folder or file, or it cannot be read.
    """
    folder = bundle / "configs"
    if not folder.is_dir():
        raise ValueError(
            f"generative-bundle: expected a bundle's folder, which holds configs/inference.json, got {shown(bundle)}"
        )
    check_plain("generative-bundle", str(bundle))
    names = [file] if file else [name + suffix for name in _FILES for suffix in _SUFFIXES]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"generative-bundle: expected {' or '.join(names)} in {folder}, found none of them")
    common = [folder / f"common{suffix}" for suffix in _SUFFIXES if (folder / f"common{suffix}").is_file()]
    content: dict[str, Any] = {}
    for each in [*common[:1], path]:
        try:
            content |= dict(ConfigParser.load_config_file(each))
        except Exception as error:
            raise ValueError(f"generative-bundle: cannot read {each}: {joined(error)}") from error
    return ZooConfig(bundle, path, content)


@contextmanager
def own_modules(root: Path) -> Iterator[None]:
    """Within it modules of the bundle are found, such as ``scripts``; afterwards they are forgotten."""
    names = {each.name for each in root.iterdir() if each.is_dir() and any(each.glob("*.py"))}
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in names}
    path, writes = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(held)
        sys.path[:] = path
        sys.dont_write_bytecode = writes


def texts(value: Any) -> Iterator[str]:
    """All texts in a nested piece of configuration."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from texts(entry)


def _without_requirements(value: Any) -> Any:
    """A component without what it asks to be run before it, such as the loading of weights."""
    return {name: entry for name, entry in value.items() if name != "_requires_"} if isinstance(value, dict) else value


def _is_used(statement: str, text: str) -> bool:
    """Whether a name that an import binds is used in some text."""
    found = _BOUND.match(statement)
    return found is not None and re.search(rf"\b{found[2] or found[1]}\b", text) is not None
