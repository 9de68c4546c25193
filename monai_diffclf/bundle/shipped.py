# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where bundles lie: those that are shipped by their names, others by their folders."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from .._class_names import shown
from .._text_path import text_path

__all__ = ["find_bundle", "shipped_bundles"]

_PACKAGE = Path(__file__).resolve().parents[1]
# In what is installed bundles travel within the package, in a checkout they lie beside it.
_PLACES = (_PACKAGE / "_shipped", _PACKAGE.parent / "bundles")


def shipped_bundles() -> dict[str, Path]:
    """Folders of the bundles that come with this package, by their names.

    Example:
        >>> shipped_bundles()["phantom_xray_diffusion"].name
        'phantom_xray_diffusion'
    """
    found: dict[str, Path] = {}
    for place in _PLACES:
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            if _is_bundle(folder):
                found.setdefault(folder.name, folder)
    return found


def find_bundle(bundle: str | os.PathLike[str]) -> Path:
    """The folder of a bundle, whole, from a folder or the name of a shipped one; a folder comes first.

    Raises:
        TypeError: when it is neither text nor a path.
        ValueError: when there is no such bundle; names the nearest shipped one.

    Example:
        >>> find_bundle("phantom_xray_diffusion").name
        'phantom_xray_diffusion'
        >>> find_bundle("phantom_xray_difusion")
        Traceback (most recent call last):
        ValueError: bundle: expected a bundle's folder, which holds configs/*.json, or the name of a shipped
        bundle, got phantom_xray_difusion; did you mean phantom_xray_diffusion?
    """
    path = text_path(bundle, "bundle").expanduser()
    if _is_bundle(path):
        return path.resolve()
    shipped = shipped_bundles()
    if (name := os.fspath(bundle)) in shipped:
        return shipped[name].resolve()
    near = difflib.get_close_matches(path.name, shipped, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"shipped are {', '.join(shipped) or 'none'}"
    raise ValueError(
        "bundle: expected a bundle's folder, which holds configs/*.json, or the name of a shipped bundle, got "
        f"{shown(bundle, 200)}; {remedy}"
    )


def _is_bundle(folder: Path) -> bool:
    return any((folder / "configs").glob("*.json"))
