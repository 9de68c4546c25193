# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Conditions that are worked out once, such as encoded prompts, and then looked up by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .._class_names import shown

__all__ = ["ConditionTables", "refuse_long_prompts"]


class ConditionTables:
    """The arguments of a network by label: a conditioning that looks rows up.

    Args:
        tables: by the argument's name one row a label [n, ...].

    Example:
        >>> conditioning = ConditionTables({"context": torch.tensor([[1.0], [3.0], [5.0]])})
        >>> conditioning(torch.tensor([0, 2]))["context"].flatten().tolist()
        [1.0, 5.0]
    """

    def __init__(self, tables: Mapping[str, torch.Tensor]) -> None:
        self.tables = dict(tables)

    def __call__(self, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arguments of some labels [n], with one row each."""
        return {name: table.to(labels.device)[labels] for name, table in self.tables.items()}


def refuse_long_prompts(tokenizer: Any, texts: Sequence[str], most: int, *, argument: str, encoder: str) -> None:
    """Refuse prompts that a text encoder would cut: what is cut off could be what tells classes apart.

    Args:
        tokenizer: of transformers.
        texts: the prompts.
        most: tokens that the encoder takes.
        argument: where the prompts come from, for the message.
        encoder: what takes them, for the message.

    Raises:
        ValueError: naming the first of them, its tokens and the limit.
    """
    for text in texts:
        count = len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
        if count > most:
            raise ValueError(
                f"{argument}: expected prompts of at most {most} tokens, which {encoder} takes, got {count} in "
                f"{shown(text)!r}; shorten it"
            )
