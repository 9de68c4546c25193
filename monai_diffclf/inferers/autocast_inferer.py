# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A training's forward pass in reduced precision, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer

__all__ = ["AutocastInferer"]

PRECISIONS = {None: None, "bfloat16": torch.bfloat16}


class AutocastInferer(SimpleInferer):
    """MONAI's `SimpleInferer` under autocast: what MONAI's trainers do on a GPU alone, also on a CPU.

    Weights stay in float32, and so do the outputs; bfloat16 has the range of float32, so that no gradient need be
    scaled.

    Args:
        amp_dtype: ``"bfloat16"``, or None for float32.

    Raises:
        ValueError: for another precision.

    Example:
        >>> inferer = AutocastInferer("bfloat16")
        >>> inferer(torch.ones(1, 4), torch.nn.Linear(4, 2)).dtype
        torch.float32
    """

    def __init__(self, amp_dtype: str | None = None) -> None:
        super().__init__()
        if amp_dtype not in PRECISIONS:
            raise ValueError(f"amp_dtype: expected None or 'bfloat16', got {amp_dtype!r}")
        self.amp_dtype = amp_dtype

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """The network's output for the inputs, float32."""
        dtype = PRECISIONS[self.amp_dtype]
        if dtype is None:
            return super().__call__(inputs, network, *args, **kwargs)
        with torch.autocast(inputs.device.type, dtype=dtype):
            return super().__call__(inputs, network, *args, **kwargs).float()
