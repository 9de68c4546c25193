"""Several methods as one, made of the probabilities that their results hold: nothing is trained or run again."""

from __future__ import annotations

from collections.abc import Sequence
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
from monai_diffclf.classification import fit_cascade
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
        keys, each = _tables(found, validation, self.results)
        tables = dict(zip(keys, _mean(each).numpy(), strict=True))
        return FittedTables(tables, _facts(sum(map(_evaluations, found))))


class CascadeMethod:
    """A cheap classifier first; of the images of which it is least sure, the mean of its probabilities and another's.

    The threshold is that which defers a share of the validation images (`fit_cascade`); both are calibrated before, by
    the temperature of their validation images.

    Args:
        data: data set of the protocol.
        first: name of the method that sees all images.
        second: of that which sees the deferred ones.
        deferred: share of the validation images that it sees.
        results: folder of the results.
    """

    def __init__(self, data: str, first: str, second: str, deferred: float = 0.2, results: Path = RESULTS) -> None:
        self.results = results
        self.settings: dict[str, Any] = {
            "data": data, "first": first, "second": second, "deferred": deferred, "pool": "mean",
        }  # fmt: skip

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedTables:
        """Choose the threshold; a member with one seed stands for it at every seed.

        Raises:
            ValueError: when a member has no result of the seed.
        """
        data, names = self.settings["data"], (self.settings["first"], self.settings["second"])
        found = [_of_seed(results_of(data, name, "primary", folder=self.results), seed, name) for name in names]
        keys, (first, second) = _tables(found, validation, self.results)
        rows = {key: row for row, key in enumerate(keys)}
        judged = [rows[key] for key in validation.keys.tolist()]
        labels = torch.from_numpy(validation.labels)
        fit = fit_cascade(first[judged], second[judged], labels, deferred=self.settings["deferred"], combine=_mean)
        asked = first.amax(1) <= fit.threshold
        answer = torch.where(asked[:, None], _mean([first, second]), first)
        facts = _facts(round(_evaluations(found[0]) + fit.deferred * _evaluations(found[1]), 1))
        return FittedTables(dict(zip(keys, answer.numpy(), strict=True)), facts | {"threshold": fit.threshold})


def _mean(members: Sequence[torch.Tensor]) -> torch.Tensor:
    return ensemble_probabilities(members, pool="mean")


def _evaluations(result: Result) -> float:
    return result.record["facts"].get("evaluations") or 0


def _facts(evaluations: float) -> dict[str, Any]:
    return {"evaluations": evaluations, "training_seconds": None, "parameters": None}


def _tables(found: list[Result], validation: Images, folder: Path) -> tuple[list[str], list[torch.Tensor]]:
    """Names of the images that all results have, and the calibrated probabilities [n, K] of each."""
    members = [_rows(result, validation, folder) for result in found]
    keys = sorted(set.intersection(*(set(rows) for rows in members)))
    return keys, [torch.from_numpy(np.stack([rows[key] for key in keys])) for rows in members]


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
