# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The archived package monai-generative (import name ``generative``), MONAI's former home of diffusion models."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import monai.config
import monai.utils

from .._optional import require

__all__ = ["import_generative"]


def import_generative() -> ModuleType:
    """The package ``generative`` 0.2.3, which without this cannot be imported beside MONAI 1.5 and newer.

    It looks for `IgniteInfo` in ``monai.config``, from where MONAI has moved it to ``monai.utils``: where it is missing
    there, it is put back. Nothing else is changed. Its networks, autoencoders and schedulers are then taken by
    `Denoiser`, the inferers and `AutoencoderSpace` as they are. Needs the extra ``generative``.

    Returns:
        the package, with ``generative.networks.nets`` and ``generative.networks.schedulers`` imported.

    Raises:
        ValueError: when it is not installed.
    """
    require("generative", argument="generative", purpose="a model of monai-generative", extra="generative")
    if not hasattr(monai.config, "IgniteInfo"):
        monai.config.IgniteInfo = monai.utils.IgniteInfo  # type: ignore[attr-defined]
    for part in ("networks.nets", "networks.schedulers"):
        import_module("generative." + part)
    return import_module("generative")
