"""A small data set of image files, and the overrides that make a bundle run on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPLIT/CLASS/*.png, 28 px; class "pneumonia" is brighter."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 6), ("test", 6)):
        for label, name in enumerate(("normal", "pneumonia")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(80 + 80 * label, 20, (28, 28)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}_{name}_{i}.png")
    return root


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Overrides for a network and a training of a few seconds."""
    return {
        "denoiser#channels": [8, 8],
        "denoiser#attention_levels": [False, False],
        "denoiser#num_res_blocks": 1,
        "denoiser#norm_num_groups": 4,
        "denoiser#num_head_channels": 8,
        "progress": False,
    }


def bundle(name: str) -> Path:
    """Folder of a bundle."""
    return ROOT / "bundles" / name
