"""Methods whose probabilities a bundle keeps: shipped models that were evaluated before this protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.evidence.data import Images
from benchmarks.evidence.method import Prediction
from monai_diffclf.handlers.evaluation_saver import read_predictions

# Data set -> bundle, tables of predictions, evaluations an image, what it is.
DIFFUSION = {
    "pneumoniamnist_28": ("pneumonia_xray_diffusion", "docs/evaluation/{}_diffusion_mean_seed_{}.csv", 102, "mean"),
    "isic2017_64": ("skin_lesion_diffusion", "docs/evaluation/{}_diffusion_vote_seed_{}.csv", 153, "vote"),
}
FORMER = {"skin_lesion_diffusion": RESULTS / "skin_lesion_diffusion_0.4.0"}
"""Bundles that ship other weights since: where the tables of those that were compared lie."""
RESNET = {"isic2017_64": ("skin_lesion_resnet18", "docs/predictions/{}_seed_{}.csv", 1, "from scratch, 24 epochs")}


class StoredMethod:
    """Probabilities of a bundle's tables, found by the images' keys; under the primary condition alone.

    Args:
        bundle: name of the bundle.
        tables: their paths in it, with places for the split and the seed.
        evaluations: network evaluations an image.
        what: how it decides, or was trained.
    """

    def __init__(self, bundle: str, tables: str, evaluations: int, what: str) -> None:
        self.settings: dict[str, Any] = {"bundle": bundle, "tables": tables, "what": what}
        self.evaluations = evaluations

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedTables:
        """Read the tables of a seed."""
        tables = {}
        for split in ("validation", "test"):
            path = BUNDLES / self.settings["bundle"] / self.settings["tables"].format(split, seed)
            if self.settings["bundle"] in FORMER:
                path = FORMER[self.settings["bundle"]] / path.name
            if not path.is_file():
                raise ValueError(f"seed: expected {path}, it is missing; evaluate the bundle with this seed first")
            table = read_predictions(path)
            tables.update(zip(table["keys"].tolist(), table["probabilities"], strict=True))
        return FittedTables(tables, {"evaluations": self.evaluations, "training_seconds": None, "parameters": None})


class FittedTables:
    """See `StoredMethod`."""

    def __init__(self, rows: dict[str, NDArray[np.float64]], facts: dict[str, Any]) -> None:
        self.rows, self.facts = rows, facts

    def predict(self, images: Images) -> Prediction:
        """The rows of the images' keys.

        Raises:
            ValueError: for an image that no table holds.
        """
        keys = [key if key in self.rows else key.partition("_")[0] for key in images.keys.tolist()]
        lacking = [key for key in keys if key not in self.rows]
        if lacking:
            raise ValueError(f"images: expected {lacking[0]} in the tables, {len(lacking)} images are missing there")
        return Prediction(np.stack([self.rows[key] for key in keys]).astype(np.float64))
