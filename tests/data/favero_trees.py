"""The data sets of the bundles of Favero et al. in small, as they are distributed."""

from __future__ import annotations

from pathlib import Path

from tests.data import chexpert_trees, isic_trees


def trees(root: Path) -> tuple[Path, Path]:
    """Folders of CheXpert and of the ISIC archive."""
    return chexpert_trees.tree(root / "CheXpert-v1.0-small"), isic_trees.melanoma_tree(root / "isic", ill=60, benign=40)
