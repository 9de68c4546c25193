# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Bundles: where the shipped ones lie, how one is opened, and how one is made from the template."""

from __future__ import annotations

from .agreement import check_agreement
from .cascade import open_first
from .open_bundle import open_bundle
from .opened import Bundle
from .settings import BundleSettings, read_settings
from .shipped import find_bundle, shipped_bundles
from .write_bundle import bundle_files, write_bundle

__all__ = [
    "Bundle",
    "BundleSettings",
    "bundle_files",
    "check_agreement",
    "find_bundle",
    "open_bundle",
    "open_first",
    "read_settings",
    "shipped_bundles",
    "write_bundle",
]
