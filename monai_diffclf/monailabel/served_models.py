# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The models of one server: each bundle that is named, those left out that cannot be loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import find_bundle
from .bundle_model import BundleModel, find_default_bundle
from .names import check_name

__all__ = ["ServedModels", "load_models"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModels:
    """What is served, and what is not.

    Args:
        by_name: the models by their bundles' folders, in the order in which they were named.
        left_out: bundles that could not be loaded, and why.
    """

    by_name: dict[str, BundleModel]
    left_out: dict[str, str]

    @property
    def first(self) -> BundleModel:
        """The model that ranks the images, and that is taken where none is named."""
        return next(iter(self.by_name.values()))

    @property
    def classes(self) -> list[str]:
        """The classes of all models, each once, those of the first model first."""
        return list(dict.fromkeys(name for model in self.by_name.values() for name in model.classes))


def load_models(bundles: Sequence[str]) -> ServedModels:
    """Load bundles; one that cannot be loaded is left out, and named in the log.

    Args:
        bundles: folders, or names of shipped bundles; none for the pneumonia bundle.

    Raises:
        ValueError: when two have the same name, or none can be loaded.
    """
    loaded: dict[str, BundleModel] = {}
    failed: dict[str, Exception] = {}
    for given in bundles or [str(find_default_bundle())]:
        name = Path(given).expanduser().resolve().name
        if name in loaded or name in failed:
            raise ValueError(f"bundle: expected folders of different names, got {name!r} twice")
        try:
            loaded[check_name(name, "bundle")] = BundleModel(_find(given))
        except (ValueError, TypeError, RuntimeError, OSError, LookupError, ImportError, AttributeError) as error:
            failed[name] = error
    reasons = {name: " ".join(str(error).split()) for name, error in failed.items()}
    if not loaded:
        if len(failed) == 1:
            raise next(iter(failed.values()))
        raise ValueError(f"bundle: none can be loaded: {'; '.join(f'{name}: {why}' for name, why in reasons.items())}")
    for name, why in reasons.items():
        logger.warning("the model %s is left out: %s", name, why)
    return ServedModels(loaded, reasons)


def _find(given: str) -> str | Path:
    """A folder as it is; else a bundle that is shipped under this name."""
    if Path(given).expanduser().is_dir() or Path(given).name != given:
        return given
    try:
        return find_bundle(given)
    except ValueError:
        return given
