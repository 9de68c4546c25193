"""Chest X-rays in the layout of `load_kermany_cxr`, of noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def tree(folder: Path, *, side: int, splits: Sequence[str], each: int) -> Path:
    """So many films of each split, pneumonia and normal in turn, of different patients."""
    (folder / "images").mkdir(parents=True)
    rows = ["file,subtype,split"]
    for n in range(each * len(splits)):
        name = f"images/IM-{n:04d}-0001.jpeg" if n % 2 else f"images/person{n}_bacteria_1.jpeg"
        pixels = np.random.default_rng(n).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        rows.append(f"{name},{('bacteria', 'normal')[n % 2]},{splits[n // each]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
