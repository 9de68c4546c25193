# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Prompts of classes, encoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .._class_names import class_names, shown
from ..networks.condition_tables import ConditionTables, refuse_long_prompts

__all__ = ["PromptConditioning", "check_lengths", "check_prompts", "encode_prompts", "in_order"]

T5_TOKENS = 256
"""Tokens of the third encoder of SD 3, by diffusers' default."""


class PromptConditioning(ConditionTables):
    """Encoded prompts as arguments of a network, by label; the last row is the empty prompt, the null class.

    Args:
        tables: by the argument's name one row a label, and one of the empty prompt, [n + 1, ...].

    Example:
        >>> conditioning = PromptConditioning({"context": torch.tensor([[1.0], [3.0], [5.0], [0.0]])})
        >>> conditioning(torch.tensor([0, 2]))["context"].flatten().tolist()
        [1.0, 5.0]
        >>> conditioning.averaged([2, 1])(torch.tensor([0, 1, 2]))["context"].flatten().tolist()
        [2.0, 5.0, 0.0]
    """

    def averaged(self, sizes: Sequence[int]) -> PromptConditioning:
        """Of classes with several prompts each, one row a class: the mean of its prompts' embeddings."""
        made = {}
        for name, table in self.tables.items():
            parts = table[:-1].double().split(list(sizes))
            made[name] = torch.stack([*(part.mean(0) for part in parts), table[-1].double()]).to(table.dtype)
        return PromptConditioning(made)


def check_prompts(prompts: Mapping[str, str | Sequence[str]]) -> tuple[list[str], tuple[tuple[str, ...], ...]]:
    """Names of the classes, and the prompts of each.

    Raises:
        TypeError: when a prompt is no text.
        ValueError: when there are fewer than two classes, a class has no prompt, or two classes have the same.
    """
    if not isinstance(prompts, Mapping):
        raise TypeError(
            f"prompts: expected a dictionary of each class to its prompt or prompts, got {type(prompts).__name__}"
        )
    classes = class_names(list(prompts))
    found: list[tuple[str, ...]] = []
    for name, given in prompts.items():
        texts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else None
        if texts is None or any(not isinstance(text, str) for text in texts):
            raise TypeError(f"prompts: expected text or a list of texts for class {shown(name)!r}, got {given!r}")
        if not texts or any(not text.strip() for text in texts):
            raise ValueError(
                f"prompts: expected one prompt or more for class {shown(name)!r}, none empty, got {given!r}"
            )
        if len(set(texts)) < len(texts):
            raise ValueError(f"prompts: expected different prompts for class {shown(name)!r}, got {given!r}")
        if set(texts) in [set(each) for each in found]:
            raise ValueError(
                f"prompts: expected other prompts for class {shown(name)!r} than for another class, got {given!r}"
            )
        found.append(texts)
    return classes, tuple(found)


def in_order(prompts: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The prompts of classes whose order is given.

    Raises:
        TypeError: when the prompts are no dictionary.
        ValueError: when a class has no prompts, or there are prompts of something else.

    Example:
        >>> in_order({"ill": "an ill patient", "well": "a patient who is well"}, ["well", "ill"])
        {'well': 'a patient who is well', 'ill': 'an ill patient'}
    """
    if not isinstance(prompts, Mapping):
        raise TypeError(
            f"prompts: expected a dictionary of each class to its prompt or prompts, got {type(prompts).__name__}"
        )
    names = class_names(classes)
    if set(names) != set(prompts):
        raise ValueError(f"prompts: expected those of the classes {names}, got those of {list(prompts)}")
    return {name: prompts[name] for name in names}


def check_lengths(pipeline: Any, texts: Sequence[str]) -> None:
    """Refuse prompts that one of the encoders would cut.

    Raises:
        ValueError: naming the first of them, its tokens and the limit.
    """
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            continue
        most = T5_TOKENS if name == "tokenizer_3" else _most_tokens(pipeline, tokenizer)
        refuse_long_prompts(tokenizer, texts, most, argument="prompts", encoder=name)


def _most_tokens(pipeline: Any, tokenizer: Any) -> int:
    """Tokens that a CLIP encoder is given; SD 3 gives both of its own the same number."""
    limit = getattr(pipeline, "tokenizer_max_length", None)
    return min(int(tokenizer.model_max_length), int(limit or tokenizer.model_max_length))


@torch.no_grad()
def encode_prompts(pipeline: Any, texts: Sequence[str], device: torch.device | str) -> PromptConditioning:
    """Each prompt as the pipeline itself encodes it, and the empty one as it stands for no prompt in guidance.

    Args:
        pipeline: the pipeline of diffusers.
        texts: the prompts.
        device: where the text encoders are.
    """
    rows: dict[str, list[torch.Tensor]] = {}
    for text in texts:
        made = pipeline.encode_prompt(
            prompt=text,
            **({"prompt_2": None} if hasattr(pipeline, "tokenizer_2") else {}),
            **({"prompt_3": None} if hasattr(pipeline, "tokenizer_3") else {}),
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )
        own, null = made[0::2], made[1::2]
        for name, row in zip(("context", "text_embeds"), own, strict=False):
            rows.setdefault(name, []).append(row[0].float().cpu())
    last = dict(zip(("context", "text_embeds"), (each[0].float().cpu() for each in null), strict=False))
    return PromptConditioning({name: torch.stack([*given, last[name]]) for name, given in rows.items()})
