# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an edit towards another class gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

__all__ = ["Counterfactuals"]


@dataclass(frozen=True)
class Counterfactuals:
    """Images as they are, as the model makes them under their own class, and as it makes them under another.

    Args:
        image: the images [B, C, *spatial].
        factual: the images edited towards their own class: what the editing alone changes [B, C, *spatial].
        counterfactual: the images edited towards the target, with the same noise [B, C, *spatial].
        source: own class of each image [B].
        target: class of each counterfactual [B].
        guidance: guidance of each counterfactual [B].
        mask: where was edited [B, 1, *spatial], 0 to 1; None for everywhere.
        drifted: whether the factual is further from the image than ``max_drift`` [B], bool: there, what differs between
            image and counterfactual is in part the editing, not the class.
        flipped: whether the diffusion classifier takes the counterfactual for the target [B], bool; None without one.
        flipped_baseline: the same for the baseline; None without one.
    """

    image: torch.Tensor
    factual: torch.Tensor
    counterfactual: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    drifted: torch.Tensor
    guidance: torch.Tensor
    mask: torch.Tensor | None = None
    flipped: torch.Tensor | None = None
    flipped_baseline: torch.Tensor | None = None

    @property
    def difference(self) -> torch.Tensor:
        """Counterfactual - image [B, C, *spatial]: positive where the target class would be brighter."""
        return self.counterfactual - self.image

    @property
    def effect(self) -> torch.Tensor:
        """Factual - counterfactual [B, C, *spatial]: positive where the own class is brighter than the target.

        What the editing does to both cancels, so that the class alone is left; its sign is opposite to `difference`.
        """
        return self.factual - self.counterfactual

    @property
    def drift(self) -> torch.Tensor:
        """Mean of |factual - image| of each image [B], in the images' units."""
        return (self.factual - self.image).abs().flatten(1).mean(1)

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def concatenate(cls, parts: Sequence[Counterfactuals]) -> Counterfactuals:
        """Counterfactuals of several batches as one.

        Raises:
            ValueError: when there is none, or a classifier judged only some of them.
        """
        if not parts:
            raise ValueError("parts: expected at least one batch of counterfactuals, got none")
        joined: dict[str, torch.Tensor | None] = {}
        for name in (each.name for each in fields(cls)):
            given = [value for part in parts if (value := getattr(part, name)) is not None]
            if len(given) not in (0, len(parts)):
                raise ValueError(f"parts: expected {name} in all batches or in none, got it in {len(given)} of them")
            joined[name] = torch.cat(given) if given else None
        return cls(**joined)  # type: ignore[arg-type]
