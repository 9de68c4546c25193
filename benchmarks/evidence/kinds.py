"""Images of other kinds, kind by kind: how well each method's own score of unlikeness tells them from test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.analysis import interval, kind_auroc, of_kinds
from benchmarks.evidence.markdown import in_words
from benchmarks.evidence.results import results_of

__all__ = ["kinds_of", "kinds_rows"]


def kinds_of(asked: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """AUROC of each kind and of their mean, of each method that was run.

    Args:
        asked: ``data`` and ``methods``, names of the protocol; ``METHOD/training`` for typicality that knows training
            images.
        folder: of the results.

    Returns:
        for each data set and method ``data``, ``method``, ``seeds``, ``mean`` (value, low, high) and ``kinds``: name of
        the kind -> AUROC, the mean over the seeds.
    """
    found = []
    for data in asked["data"]:
        for method in asked["methods"]:
            name, _, more = method.partition("/")
            condition = f"other_kinds/{more}" if more else "other_kinds"
            results = results_of(data, name, condition, folder=folder)
            if not results or any(not len(r.unlikeness) for r in results):
                continue
            crossed = of_kinds(data, [name], folder, 0, condition)[name]
            kinds = {kind: float(np.mean([kind_auroc(r, kind) for r in results])) for kind in results[0].kinds}
            found.append(
                {
                    "data": data,
                    "method": method,
                    "seeds": [r.record["seed"] for r in results],
                    "mean": interval(crossed),
                    "kinds": kinds,
                }
            )
    return found


def kinds_rows(asked: dict[str, Any], found: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table; of the first method also whether it is above the others, and on each kind enough.

    So of its other scores, such as that of ``METHOD/training``.
    """
    heads = ["data", "score of unlikeness", "other sets", "inverted", "shuffled", "noise", "mean over the kinds",
             f"above the others; {asked['least']} on each"]  # fmt: skip
    rows = []
    for row in found:
        sets = [value for kind, value in row["kinds"].items() if kind.startswith("from_")]
        kinds = [*(f"{row['kinds'][kind]:.3f}" for kind in ("inverted", "shuffled", "noise_image"))]
        mean = in_words(row["mean"])
        rows.append(
            [f"`{row['data']}`", asked["methods"][row["method"]], ", ".join(f"{value:.3f}" for value in sets), *kinds,
             mean, _verdict(asked, row, found)]
        )  # fmt: skip
    return heads, rows


def _verdict(asked: dict[str, Any], row: dict[str, Any], found: list[dict[str, Any]]) -> str:
    first = next(iter(asked["methods"]))
    if _plain(row["method"]) != first:
        return ""
    others = [o["mean"]["value"] for o in found if o["data"] == row["data"] and _plain(o["method"]) != first]
    above = bool(others) and row["mean"]["value"] > max(others)
    enough = min(row["kinds"].values()) >= asked["least"]
    return f"{'yes' if above else 'no'}; {'yes' if enough else 'no'}"


def _plain(method: str) -> str:
    return method.partition("/")[0]
