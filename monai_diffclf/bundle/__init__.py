# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Bundles: where the shipped ones lie, how one is opened."""

from __future__ import annotations

from .open_bundle import open_bundle
from .opened import Bundle
from .shipped import find_bundle, shipped_bundles

__all__ = ["Bundle", "find_bundle", "open_bundle", "shipped_bundles"]
