# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One of several findings of an image, seen as an image of two classes: what tables, cases and maps show of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.utils import CommonKeys

from ..keys import OutputKeys

__all__ = ["is_multi_label", "num_findings", "of_finding"]


def is_multi_label(result: Mapping[str, Any]) -> bool:
    """Whether an item of an output is of several findings."""
    return bool(result.get(OutputKeys.MULTI_LABEL, False))


def num_findings(result: Mapping[str, Any]) -> int:
    """Findings L of an item of an output."""
    return int(torch.as_tensor(result[CommonKeys.PRED]).numel())


def of_finding(result: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What an item of an output says of one finding, as if it were an image of two classes, absent and present.

    Args:
        result: item of a decollated output of a `MultiLabelClassifierInferer`.
        number: the finding.

    Example:
        >>> of_finding({"pred": torch.tensor([0.25, 0.75]), "errors": torch.zeros(4, 3)}, 0)["pred"].tolist()
        [0.75, 0.25]
    """
    made = {name: value for name, value in result.items() if name != OutputKeys.MULTI_LABEL}
    for key in (CommonKeys.PRED.value, OutputKeys.VOTE_SHARE.value, OutputKeys.PRED_UNCALIBRATED.value):
        if key in result:
            share = torch.as_tensor(result[key])[number]
            made[key] = torch.stack([1 - share, share])
    for key in (OutputKeys.ERROR_MAPS.value, OutputKeys.DECIDED.value, OutputKeys.PREDICTION_SET.value):
        if key in result:
            made[key] = torch.as_tensor(result[key])[number]
    if OutputKeys.ERRORS in result:
        made[OutputKeys.ERRORS.value] = torch.as_tensor(result[OutputKeys.ERRORS])[2 * number : 2 * number + 2]
    if OutputKeys.UNCERTAINTY in result:
        known = result[OutputKeys.UNCERTAINTY]
        made[OutputKeys.UNCERTAINTY.value] = {name: torch.as_tensor(known[name])[number] for name in known}
    return made
