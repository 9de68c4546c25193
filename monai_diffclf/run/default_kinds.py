# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What kind of value an option takes, told from its default in a bundle's configuration."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

__all__ = ["Kind", "find_default", "kind_of_default", "split_id"]

_REFERENCE = re.compile(r"@[\w#:]*\w")
_PATH = re.compile(
    r"(^|[_#])(dir|path|file|root|folder|table|checkpoint|patients|uncertainty|calibration|conformal|typicality)$"
)
# Components that give a path.
_PATH_TARGETS = {"monai_diffclf.handlers.find_weights"}
_YES_OR_NO_CALLS = {"isfile", "isdir", "exists"}
_TEXT_CALLS = {"str", "repr", "join", "abspath", "dirname", "basename", "realpath", "expanduser", "format"}
_DEPTH = 8  # references that lead to references


class Kind(Enum):
    """Kinds of values, named as a message names them."""

    YES_OR_NO = "True or False"
    WHOLE_NUMBER = "a whole number"
    NUMBER = "a number"
    TEXT = "a text"
    PATH = "a path"
    LIST = "a list"
    DEVICE = "a device"
    ANYTHING = "anything"


def split_id(name: str) -> list[str]:
    """The parts of an id, ``a#b`` or ``a::b``."""
    return name.replace("#", "::").split("::")


def find_default(config: Any, name: str) -> Any:
    """What a configuration holds under an id.

    Raises:
        KeyError: when there is nothing; its argument is the id of the part that exists.
    """
    found, done = config, list[str]()
    for part in split_id(name):
        try:
            found = found[int(part)] if isinstance(found, list) else dict(found)[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError("#".join(done)) from None
        done.append(part)
    return found


def kind_of_default(config: Mapping[str, Any], name: str) -> Kind:
    """The kind of an option.

    A reference is followed; of an expression its form tells the kind: a comparison is true or false, a sum with text in
    it is text.

    Args:
        config: the configuration, without what the command line overrides.
        name: the option's id; it must exist.

    Example:
        >>> config = {"root": ".", "data_dir": "$@root + '/data'", "maps": True, "report": "@maps", "stopping": None}
        >>> [kind_of_default(config, name).name for name in config]
        ['PATH', 'PATH', 'YES_OR_NO', 'YES_OR_NO', 'ANYTHING']
    """
    default = find_default(config, name)
    kind = _kind(config, default, _DEPTH)
    path = bool(_PATH.search(split_id(name)[-1]))
    if isinstance(default, Mapping) and default.get("_target_") in _PATH_TARGETS:
        return Kind.PATH
    if kind is Kind.TEXT and (path or "/" in default):
        return Kind.PATH
    return Kind.PATH if default is None and path else kind


def _kind(config: Mapping[str, Any], default: Any, depth: int) -> Kind:
    # bool before int: it is one.
    for types, kind in ((bool, Kind.YES_OR_NO), (int, Kind.WHOLE_NUMBER), (float, Kind.NUMBER), (list, Kind.LIST)):
        if isinstance(default, types):
            return kind
    if not isinstance(default, str) or depth == 0:
        return Kind.ANYTHING
    if _REFERENCE.fullmatch(default):
        return _of_reference(config, default, depth)
    if default.startswith("$"):
        return _of_expression(config, default[1:], depth)
    return Kind.ANYTHING if default.startswith(("@", "%")) else Kind.TEXT


def _of_reference(config: Mapping[str, Any], reference: str, depth: int) -> Kind:
    try:
        return _kind(config, find_default(config, reference[1:]), depth - 1)
    except KeyError:
        return Kind.ANYTHING


def _of_expression(config: Mapping[str, Any], code: str, depth: int) -> Kind:
    if _REFERENCE.fullmatch(code):
        return _of_reference(config, code, depth)
    try:
        tree = ast.parse(_REFERENCE.sub("reference", code), mode="eval").body
    except SyntaxError:
        return Kind.ANYTHING
    return _of_tree(tree)


def _of_tree(tree: ast.expr) -> Kind:
    if isinstance(tree, ast.Compare) or (isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)):
        return Kind.YES_OR_NO
    if isinstance(tree, ast.Constant):
        return Kind.TEXT if isinstance(tree.value, str) else Kind.ANYTHING
    if isinstance(tree, ast.JoinedStr):
        return Kind.TEXT
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        return Kind.TEXT if Kind.TEXT in (_of_tree(tree.left), _of_tree(tree.right)) else Kind.ANYTHING
    if isinstance(tree, ast.IfExp):
        return _of_tree(tree.body) if _of_tree(tree.body) is _of_tree(tree.orelse) else Kind.ANYTHING
    if isinstance(tree, ast.Call):
        function = tree.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in _YES_OR_NO_CALLS:
            return Kind.YES_OR_NO
        return Kind.DEVICE if name == "device" else Kind.TEXT if name in _TEXT_CALLS else Kind.ANYTHING
    return Kind.ANYTHING
