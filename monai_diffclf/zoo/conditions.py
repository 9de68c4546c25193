# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From what each class is to a generative model to the arguments of its network."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .._class_names import shown
from ..networks.condition_tables import ConditionTables
from .condition_file import Condition, ConditionFile, read_condition_file
from .parts import GenerativeParts
from .prompts import encode_texts, read_embeddings

__all__ = ["ClassConditions", "check_different", "read_conditions"]

# What MAISI's networks take beside the timestep: which setting says so, and how many numbers. Its bundle gives them
# times a hundred.
_MAISI = {
    "top_region_index_tensor": ("include_top_region_index_input", 4),
    "bottom_region_index_tensor": ("include_bottom_region_index_input", 4),
    "spacing_tensor": ("include_spacing_input", 3),
}
_HUNDREDTHS = 100.0


class ClassConditions(ConditionTables):
    """The arguments of the network under each condition: a conditioning, called with labels of conditions.

    Args:
        file: what the classes are.
        tables: by the argument's name one row a condition, class by class.
        averaged: whether the conditions of each class have been averaged to one: a row a class.

    Example:
        >>> file = ConditionFile(("young", "old"), (((0.1,),), ((0.9,),)))
        >>> conditions = ClassConditions(file, {"context": torch.tensor([[[0.1]], [[0.9]]])})
        >>> conditions(torch.tensor([1]))["context"].tolist(), conditions.classes
        ([[[0.8999999761581421]]], ['young', 'old'])
    """

    def __init__(self, file: ConditionFile, tables: Mapping[str, torch.Tensor], *, averaged: bool = False) -> None:
        super().__init__(tables)
        self.file, self.averaged = file, averaged

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.file.classes)

    @property
    def per_class(self) -> list[int]:
        """How many conditions each class is denoised under."""
        return [1 if self.averaged else len(each) for each in self.file.conditions]

    def described(self) -> dict[str, list[Any]]:
        """The conditions of each class, as the file has them."""
        pairs = zip(self.file.classes, self.file.conditions, strict=True)
        return {name: [list(each) if isinstance(each, tuple) else each for each in found] for name, found in pairs}

    def __repr__(self) -> str:
        """A hash of all of it: it stands for the conditions in a configuration that is hashed."""
        digest = hashlib.blake2b(repr(self.described()).encode(), digest_size=8)
        for name, table in sorted(self.tables.items()):
            digest.update(f"{name} {table.dtype} {tuple(table.shape)}".encode() + table.contiguous().numpy().tobytes())
        return f"ClassConditions({digest.hexdigest()})"


def read_conditions(
    path: Path, parts: GenerativeParts, *, text_encoder: Path | None = None, embeddings: Path | None = None
) -> ClassConditions:
    """Read a file of conditions for the network of a bundle.

    Args:
        path: the file, see `read_condition_file`.
        parts: the bundle's parts.
        text_encoder: local folder of the text encoder, for prompts.
        embeddings: file of encoded prompts, in its place.

    Raises:
        ValueError: when the bundle is unconditional, or the conditions are not what its network takes.
    """
    takes = _Takes(parts)
    file = read_condition_file(path)
    every = file.every
    if any(isinstance(each, str) for each in every):
        tables = {"context": _prompts(every, takes, text_encoder, embeddings)}
    else:
        rows = [takes.arguments(each, file.classes[k]) for k, of in enumerate(file.conditions) for each in of]
        tables = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    check_different(file, tables)
    return ClassConditions(file, tables)


class _Takes:
    """What the network of a bundle is conditioned on."""

    def __init__(self, parts: GenerativeParts) -> None:
        network = parts.inner
        self.name, self.width, self.concatenated = parts.root.name, parts.context_width, parts.concatenated
        table = getattr(network, "class_embedding", None)
        self.labels = table.num_embeddings if isinstance(table, nn.Embedding) else 0
        self.regions = {name: count for name, (flag, count) in _MAISI.items() if getattr(network, flag, False)}
        numbers = self.concatenated or (self.width or 0)
        named = parts.covariates if len(parts.covariates) == numbers else ()
        self.covariates = named or tuple(f"covariate_{i}" for i in range(numbers if self.concatenated else 0))
        if not (self.width or self.concatenated or self.labels or self.regions):
            raise ValueError(
                f"conditions: the bundle {self.name} is unconditional (no class embeddings, no cross-attention, no "
                "channels for conditions): it has no classes to compare"
            )

    def arguments(self, condition: Condition, of_class: str) -> dict[str, torch.Tensor]:
        """The network's arguments under one condition, each without a batch axis."""
        if isinstance(condition, int):
            condition = {"class_labels": condition}
        if isinstance(condition, tuple):
            return self._numbers(condition, of_class)
        named = dict(cast(Mapping[str, Any], condition))
        found: dict[str, torch.Tensor] = {}
        for name, count in self.regions.items():
            found[name] = _HUNDREDTHS * self._vector(named.pop(name, None), name, count, of_class)
        if self.labels:
            found["class_labels"] = self._label(named.pop("class_labels", None), of_class)
        if self.width or self.concatenated:
            found |= self._numbers([named.pop(name, None) for name in self.covariates], of_class)
        if named:
            known = [*self.covariates, *self.regions, *(["class_labels"] if self.labels else [])]
            strange = next(iter(named))
            near = difflib.get_close_matches(strange, known, n=1)
            raise ValueError(
                f"conditions: expected {', '.join(known)} for class {shown(of_class)!r}, which {self.name} is "
                f"conditioned on, got {shown(strange)}" + (f"; did you mean {near[0]}?" if near else "")
            )
        return found

    def _numbers(self, values: Sequence[Any], of_class: str) -> dict[str, torch.Tensor]:
        """Covariates as channels, as a token of the context, or both."""
        count = self.concatenated or self.width or 0
        names = ", ".join(self.covariates)
        if not count:
            raise ValueError(
                f"conditions: expected {self._wanted()} for class {shown(of_class)!r}, got a list of {len(values)} "
                "numbers"
            )
        if len(values) != count:
            wanted = f"{count} numbers ({names})" if names else f"prompts, or {count} numbers (a token of the context)"
            raise ValueError(f"conditions: expected {wanted} for class {shown(of_class)!r}, got {len(values)}")
        if missing := [name for name, value in zip(self.covariates, values, strict=False) if value is None]:
            raise ValueError(
                f"conditions: expected {names} for class {shown(of_class)!r}, got no {missing[0]}; what all classes "
                "have in common goes under shared"
            )
        row = self._vector(list(values), "covariates", count, of_class)
        found = {"concat": row} if self.concatenated else {}
        if self.width is not None:
            if self.width != count:
                raise ValueError(
                    f"conditions: expected a network that takes its {count} channels of conditions as context too, got "
                    f"one of width {self.width}"
                )
            found["context"] = row[None]
        return found

    def _label(self, value: Any, of_class: str) -> torch.Tensor:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < self.labels:
            raise ValueError(
                f"conditions: expected {self._wanted()} for class {shown(of_class)!r}, got "
                f"{'none' if value is None else shown(value)}"
            )
        return torch.tensor(value)

    def _vector(self, value: Any, name: str, count: int, of_class: str) -> torch.Tensor:
        numbers = value if isinstance(value, list | tuple) else []
        good = len(numbers) == count and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        row = torch.tensor([float(n) for n in numbers]) if good else torch.tensor([torch.nan])
        if not bool(torch.isfinite(row).all()):
            raise ValueError(
                f"conditions: expected {count} finite numbers of {name} for class {shown(of_class)!r}, got "
                f"{'none' if value is None else shown(value)}"
            )
        return row

    def _wanted(self) -> str:
        """What a class must be, in words."""
        if self.labels:
            return f"a class label 0 to {self.labels - 1} (class_labels), which {self.name} is conditioned on"
        if self.regions:
            return f"{', '.join(self.regions)}, which {self.name} is conditioned on"
        return "prompts" if not self.covariates else f"numbers ({', '.join(self.covariates)})"

    def refuse_prompts(self) -> None:
        """Refuse prompts where the network takes none."""
        if self.width is None or self.concatenated or self.labels or self.regions:
            raise ValueError(f"conditions: expected {self._wanted()}, got a prompt")


def _prompts(
    every: Sequence[Condition], takes: _Takes, text_encoder: Path | None, embeddings: Path | None
) -> torch.Tensor:
    """The tokens of each prompt [n, L, D]."""
    takes.refuse_prompts()
    texts = [each for each in every if isinstance(each, str)]
    if len(texts) < len(every):
        raise ValueError("conditions: expected prompts for all classes, or for none, got some of each")
    if (text_encoder is None) == (embeddings is None):
        raise ValueError(
            "conditions: prompts need the text encoder that the network was trained with, from a local folder (--set "
            "text_encoder=FOLDER), or encoded prompts from a file (--set embeddings=FILE); got "
            + ("neither" if embeddings is None else "both")
        )
    if embeddings is not None:
        tokens = read_embeddings(embeddings, texts)
    else:
        tokens = encode_texts(cast(Path, text_encoder), texts)
    if tokens[0].shape[-1] != takes.width:
        raise ValueError(
            f"conditions: expected tokens of width {takes.width}, which the network of {takes.name} takes, got "
            f"{tokens[0].shape[-1]} from {text_encoder or embeddings}; give the encoder that it was trained with"
        )
    return torch.stack(tokens)


def check_different(file: ConditionFile, tables: Mapping[str, torch.Tensor]) -> None:
    """Refuse two classes that are the same to the network.

    Args:
        file: what the classes are.
        tables: by the argument's name one row a condition, class by class.

    Raises:
        ValueError: naming the two.
    """
    sizes = [len(each) for each in file.conditions]
    rows = [torch.cat([table[i].double().flatten() for _, table in sorted(tables.items())]) for i in range(sum(sizes))]
    sets, start = [], 0
    for size in sizes:
        sets.append({tuple(row.tolist()) for row in rows[start : start + size]})
        start += size
    for k, found in enumerate(sets):
        if found in sets[:k]:
            raise ValueError(
                f"conditions: expected others for class {shown(file.classes[k])!r} than for "
                f"{shown(file.classes[sets.index(found)])!r}, got the same"
            )
