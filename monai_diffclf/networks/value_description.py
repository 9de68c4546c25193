# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A hash of whatever a transform is made of: the same in every process, another where its results may differ."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import json
import math
import os
import random
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from .object_settings import settings_of

__all__ = ["NotDescribedError", "is_from_library", "value_hash"]

_UFUNCS = ("numpy", "scipy.special")
_LRU_CACHE = type(functools.lru_cache(abs))
_RANDOM = (np.random.RandomState, np.random.Generator, random.Random, torch.Generator)
_PACKAGES = tuple(os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("purelib", "platlib"))
_NOT_OF_CLASS = ("__annotations__", "__dict__", "__doc__", "__module__", "__qualname__", "__weakref__", "_abc_impl")


class NotDescribedError(ValueError):
    """What a value does cannot be told from what it is made of; the text says which value, and why."""


def value_hash(value: Any) -> str:
    """Sixteen hexadecimal digits of a value: a setting, an array, a function, or an object with all that it holds.

    Arrays and tensors count by their content; functions and classes of one's own by their code, defaults and the values
    that they use from around them, those of installed packages by their names; an object by its class and what it was
    made with (`settings_of`). It does not depend on the process, but the code does on the version of Python.

    Args:
        value: the value.

    Raises:
        NotDescribedError: when something in there cannot be described, such as a lock or an open file.

    Example:
        >>> one, same, other = (value_hash(f) for f in (lambda x: x * 2, lambda x: x * 2, lambda x: x * 3))
        >>> one == same, one == other, value_hash(np.zeros(9)) == value_hash(np.ones(9))
        (True, False, False)
    """
    try:
        return _digest(_Describer().describe(value), 8)
    except RecursionError:
        raise NotDescribedError(f"a value of {_name(type(value))}, which holds too much inside of each other") from None


def is_from_library(module: str | None) -> bool:
    """Whether a module belongs to an installed package, to Python or to this one, whose names stand for their code."""
    top = (module or "").partition(".")[0]
    if top in ("monai", __package__.partition(".")[0]) or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and os.path.realpath(file).startswith(_PACKAGES)


class _Describer:
    """Describes values as JSON; knows what it is in the middle of, as functions and objects may refer to themselves."""

    def __init__(self) -> None:
        self._inside: dict[int, int] = {}
        self._functions: dict[int, Any] = {}

    def describe(self, value: Any) -> Any:
        """A value as JSON."""
        if value is None or isinstance(value, bool):
            return value
        if id(value) in self._inside:
            return {"again": self._inside[id(value)]}
        self._inside[id(value)] = len(self._inside)
        try:
            return self._describe(value)
        finally:
            del self._inside[id(value)]

    def _describe(self, value: Any) -> Any:
        if type(value) in (int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) in (bytes, bytearray):
            return {"bytes": value.hex()}
        if type(value) in (list, tuple):
            return [type(value).__name__, *map(self.describe, value)]
        if type(value) in (set, frozenset):
            return ["set", *sorted(json.dumps(self.describe(each), sort_keys=True) for each in value)]
        if type(value) is dict:
            return {"dict": [[self.describe(key), self.describe(each)] for key, each in value.items()]}
        return self._thing(value)

    def _thing(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            return self._array(value)
        if isinstance(value, FunctionType):
            if id(value) not in self._functions:
                self._functions[id(value)] = {"function": _digest(self._function(value), 16)}
            return self._functions[id(value)]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return {"module": value.__name__}
        if isinstance(value, _RANDOM):
            return {"random numbers": type(value).__name__}  # seeded by whoever draws them
        return self._callable(value) or self._object(value)

    def _callable(self, value: Any) -> Any:
        """What stands for a function, and is none that Python's code says all of; None for anything else."""
        if isinstance(value, functools.partial):
            return {"partial": self.describe([value.func, value.args, value.keywords])}
        if isinstance(value, MethodType):
            return {"method": [value.__name__, self.describe(value.__self__)]}
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            of = None if owner is None or isinstance(owner, ModuleType) else self.describe(owner)
            return {"builtin": [value.__module__, value.__qualname__, of]}
        if isinstance(value, property):
            return {"property": self.describe([value.fget, value.fset])}
        if isinstance(value, functools.cached_property):
            return {"property": self.describe(value.func)}
        if isinstance(value, staticmethod | classmethod) or type(value) is _LRU_CACHE:
            return {"wrapped": [type(value).__name__, self.describe(value.__wrapped__)]}
        return None

    def _object(self, value: Any) -> Any:
        try:
            known = copyreg.dispatch_table.get(type(value))
            reduced = known(value) if known else value.__reduce_ex__(2)
        except Exception as error:
            raise NotDescribedError(f"a value of {_name(type(value))}: {error}") from None
        if isinstance(reduced, str):
            if isinstance(value, np.ufunc) and not any(
                getattr(sys.modules.get(m), reduced, 0) is value for m in _UFUNCS
            ):
                raise NotDescribedError(f"a value of {_name(type(value))}: it does not say of which function")
            return {"name": [type(value).__module__, reduced]}
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, tuple) and len(state) == 2:  # with __slots__
            state = {**(state[0] or {}), **(state[1] or {})}
        if isinstance(state, dict):
            state = settings_of(value, state)
        parts = [make, arguments, state, list(items or ()), list(pairs or ())]
        return {"object": [self._class(type(value)), *map(self.describe, parts)]}

    def _array(self, value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            array = np.asarray(value)
            if array.dtype.hasobject:
                return {"array": [list(array.shape), self.describe(array.tolist())]}
            kind, shape, content = str(array.dtype), array.shape, array.tobytes()
        else:
            try:
                kind, shape = str(value.dtype), tuple(value.shape)
                flat = value.detach().as_subclass(torch.Tensor).cpu().contiguous().reshape(-1)
                content = flat.view(torch.uint8).numpy().tobytes()
            except (RuntimeError, TypeError) as error:
                raise NotDescribedError(f"a tensor of {value.layout}: {error}") from None
        return {"array": [kind, list(shape), hashlib.blake2b(content, digest_size=16).hexdigest()]}

    def _class(self, kind: type) -> Any:
        if is_from_library(kind.__module__):
            return {"class": _name(kind)}
        own = {name: value for name, value in sorted(vars(kind).items()) if name not in _NOT_OF_CLASS}
        own = {
            name: value
            for name, value in own.items()
            if isinstance(value, FunctionType | staticmethod | classmethod | property) or not name.startswith("__")
        }
        return {"class": kind.__qualname__, "bases": self.describe(list(kind.__bases__)), "holds": self.describe(own)}

    def _function(self, function: FunctionType) -> Any:
        if is_from_library(function.__module__) and "<" not in function.__qualname__:
            return {"function": f"{function.__module__}.{function.__qualname__}"}
        around = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        return {
            "code": self._code(function.__code__),
            "defaults": self.describe([function.__defaults__, function.__kwdefaults__]),
            "around": {name: self._cell(cell) for name, cell in around.items()},
            "globals": dict(self._globals(function)),
        }

    def _cell(self, cell: Any) -> Any:
        try:
            return self.describe(cell.cell_contents)
        except ValueError as error:
            if isinstance(error, NotDescribedError):
                raise
            return "nothing yet"

    def _code(self, code: CodeType) -> Any:
        constants = [self._code(each) if isinstance(each, CodeType) else self.describe(each) for each in code.co_consts]
        counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        text = code.co_code.hex() + getattr(code, "co_exceptiontable", b"").hex()
        return [text, constants, counts, *map(list, names)]

    def _globals(self, function: FunctionType) -> Iterator[tuple[str, Any]]:
        """The values of a function's module that its code uses."""
        known, names = function.__globals__, sorted(set(_names(function.__code__, "LOAD_GLOBAL", "LOAD_NAME")))
        for name in names:
            if name in known:
                yield name, self._global(known[name], set(_attributes(function.__code__)))
        for module in sorted(set(_names(function.__code__, "IMPORT_NAME"))):
            if not is_from_library(module):
                raise NotDescribedError(
                    f"{function.__qualname__}, which imports {module or 'its own package'} inside; import it at the top"
                )

    def _global(self, value: Any, names: Iterable[str]) -> Any:
        """A value; of a module of one's own what is looked up in there."""
        if not isinstance(value, ModuleType) or is_from_library(value.__name__):
            return self.describe(value)
        used = {name: getattr(value, name) for name in sorted(names) if hasattr(value, name)}
        if id(value) in self._inside:
            return {"again": self._inside[id(value)]}
        self._inside[id(value)] = len(self._inside)
        try:
            return {"module": value.__name__, "uses": {name: self._global(each, names) for name, each in used.items()}}
        finally:
            del self._inside[id(value)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _names(code: CodeType, *operations: str) -> Iterator[str]:
    """What some operations of a code, and of those inside of it, name."""
    for each in _codes(code):
        yield from (str(step.argval) for step in dis.get_instructions(each) if step.opname in operations)


def _attributes(code: CodeType) -> Iterator[str]:
    for each in _codes(code):
        yield from each.co_names


def _digest(described: Any, size: int) -> str:
    text = json.dumps(described, sort_keys=True)
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=size).hexdigest()


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
