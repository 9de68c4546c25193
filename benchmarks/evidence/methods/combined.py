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
from benchmarks.evidence.protocol import RESULTS
from benchmarks.evidence.results import Result, read_images, results_of
from monai_diffclf.uncertainty import ensemble_probabilities

Tables = dict[str, NDArray[np.float64]]


class CombinedMethod:
    """The mean of the probabilities of results, each calibrated by the temperature of its validation images.

    Args:
        data: data set of the protocol.
        members: names of the methods, of the same seed; of one alone the mean of all its seeds is taken.
        results: folder of the results.
    """

    def __init__(self, data: str, *members: str, results: Path = RESULTS) -> None:
        self.results = results
        self.settings: dict[str, Any] = {"data": data, "members": list(members), "pool": "mean"}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedTables:
        """Read the results; a member with one seed stands for it at every seed.

        Raises:
            ValueError: when a member has no result of the seed.
        """
        data, names = self.settings["data"], self.settings["members"]
        seeds = [results_of(data, name, "primary", folder=self.results) for name in names]
        alone = len(names) == 1 and seeds[0]
        found = seeds[0] if alone else [_of_seed(every, seed, name) for every, name in zip(seeds, names, strict=True)]
        members = [_rows(result, validation, self.results) for result in found]
        keys = sorted(set.intersection(*(set(rows) for rows in members)))
        each = [torch.from_numpy(np.stack([rows[key] for key in keys])) for rows in members]
        tables = dict(zip(keys, ensemble_probabilities(each, pool="mean").numpy(), strict=True))
        evaluations = sum(result.record["facts"].get("evaluations") or 0 for result in found)
        return FittedTables(tables, {"evaluations": evaluations, "training_seconds": None, "parameters": None})


def _of_seed(results: list[Result], seed: int, method: str) -> Result:
    chosen = results if len(results) == 1 else [one for one in results if one.record["seed"] == seed]
    if not chosen:
        raise ValueError(f"seed: expected a result of {method} with seed {seed}, there is none; run it first")
    return chosen[0]


def _rows(result: Result, validation: Images, folder: Path) -> Tables:
    """Calibrated probabilities of validation and test images by their keys."""
    labels = dict(zip(validation.keys.tolist(), validation.labels.tolist(), strict=True))
    keys = {part: read_images(result.record[part], folder)["keys"].tolist() for part in ("validation", "test")}
    t = temperature(np.asarray([labels[key] for key in keys["validation"]]), result.validation)
    said = {"validation": result.validation, "test": result.probabilities}
    return {key: p for part in keys for key, p in zip(keys[part], calibrated(said[part], t), strict=True)}
