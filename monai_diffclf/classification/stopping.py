# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""When enough draws have been spent on an image."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from .errors import DenoisingErrors
from .rules import count_votes

__all__ = ["CurtailedVote", "StoppingRule"]


@runtime_checkable
class StoppingRule(Protocol):
    """A rule that says, from the errors so far, which images need no more draws.

    ``block`` is the number of draws between two looks, ``rules`` the rules it is valid for. :meth:`decided` is a pure
    function of the errors: it can be replayed on stored ones.
    """

    block: int
    rules: tuple[str, ...]

    def decided(self, errors: DenoisingErrors, num_draws: int) -> torch.Tensor:
        """Which images are decided [B], bool, given their first draws out of ``num_draws``."""
        ...


class CurtailedVote:
    """Stop when the leader of the vote can no longer be caught: always the class that all draws would give.

    A class that leads by more votes than there are draws left keeps its lead. The prediction of the vote is therefore
    exactly that of all draws; vote share, uncertainty and probabilities are those of the draws made.

    Args:
        block: draws between two looks.

    Raises:
        ValueError: when ``block`` is not a positive integer.

    Example:
        >>> values = torch.stack([torch.zeros(1, 3), torch.ones(1, 3)], 1)
        >>> errors = DenoisingErrors(values, torch.arange(3), torch.zeros(3))
        >>> CurtailedVote().decided(errors, 5).tolist(), CurtailedVote().decided(errors, 6).tolist()
        ([True], [False])
    """

    rules = ("vote",)

    def __init__(self, block: int = 1) -> None:
        if not isinstance(block, int) or block < 1:
            raise ValueError(f"block: expected a positive integer, got {block!r}")
        self.block = block

    def decided(self, errors: DenoisingErrors, num_draws: int) -> torch.Tensor:
        """Which images are decided [B], bool: lead > draws left."""
        top = count_votes(errors).topk(2, dim=1).values
        made = errors.evaluated.any(1).sum(1)
        return (top[:, 0] - top[:, 1]) > (num_draws - made) + 1e-9
