"""Several methods as one, made of the probabilities that their results hold: nothing is trained or run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.evidence.data import Images
from benchmarks.evidence.measures import calibrated, temperature
from benchmarks.evidence.methods.stored import FittedTables
from benchmarks.evidence.results import Result, read_images, results_of
from monai_diffclf.uncertainty import ensemble_probabilities

Tables = dict[str, NDArray[np.float64]]


class CombinedMethod:
    """The mean of the probabilities of results, each calibrated by the temperature of its validation images.

    Args:
        data: data set of the protocol.
        members: names of the methods, of the same seed; of one alone the mean of all its seeds is taken.
    """

    def __init__(self, data: str, *members: str) -> None:
        self.settings: dict[str, Any] = {"data": data, "members": list(members), "pool": "mean"}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedTables:
        """Read the results; a member with one seed stands for it at every seed.

        Raises:
            ValueError: when a member has no result of the seed.
        """
        found = [_of_seed(self.settings["data"], name, seed) for name in self.settings["members"]]
        if len(found) == 1:
            found = [[result] for result in results_of(self.settings["data"], self.settings["members"][0], "primary")]
        members = [_rows(result, validation) for part in found for result in part]
        keys = set.intersection(*(set(rows) for rows in members))
        tables = {key: _mean([rows[key] for rows in members]) for key in sorted(keys)}
        evaluations = sum(result.record["facts"].get("evaluations") or 0 for part in found for result in part)
        return FittedTables(tables, {"evaluations": evaluations, "training_seconds": None, "parameters": None})


def _of_seed(data: str, method: str, seed: int) -> list[Result]:
    results = results_of(data, method, "primary")
    chosen = results if len(results) == 1 else [one for one in results if one.record["seed"] == seed]
    if not chosen:
        raise ValueError(f"seed: expected a result of {method} on {data} with seed {seed}, there is none; run it first")
    return chosen[:1]


def _rows(result: Result, validation: Images) -> Tables:
    """Calibrated probabilities of validation and test images by their keys."""
    labels = dict(zip(validation.keys.tolist(), validation.labels.tolist(), strict=True))
    known, rows = read_images(result.record["validation"])["keys"].tolist(), {}
    t = temperature(np.asarray([labels[key] for key in known]), result.validation)
    for digest, values in (("validation", result.validation), ("test", result.probabilities)):
        keys = read_images(result.record[digest])["keys"].tolist()
        rows.update(zip(keys, calibrated(values, t), strict=True))
    return rows


def _mean(members: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return ensemble_probabilities([torch.from_numpy(p[None]) for p in members], pool="mean")[0].numpy()
