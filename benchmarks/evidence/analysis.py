"""From result files to numbers: the primary metric of each method, margins, and the eleven comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.evidence.measures import MEASURES, auroc, calibrated, temperature
from benchmarks.evidence.protocol import RESULTS, protocol
from benchmarks.evidence.results import Result, read_images, results_of
from monai_diffclf.metrics import CrossedResamples, Difference, crossed_resamples, difference

__all__ = [
    "compare",
    "compare_all",
    "holm",
    "interval",
    "kind_auroc",
    "margin",
    "mean_of",
    "method_metrics",
    "of_kinds",
    "of_split",
    "paired",
]

END_TO_END = ("cnn_finetuned", "resnet18")
# Test images of ISIC 2017 that are training images as well.
COPIES = [f"images/ISIC_{number}.jpg" for number in ("0012989", "0013109", "0015982", "0016018")]


def method_metrics(
    data: str, method: str, split: str = "test", folder: Path = RESULTS, condition: str = "primary"
) -> dict[str, Any] | None:
    """Every measure of a method on a test set with its interval, and what it cost; None where it was not run."""
    results = results_of(data, method, condition, split, folder)
    if not results:
        return None
    images = read_images(results[0].record["test"], folder)
    found: dict[str, Any] = {"seeds": [r.record["seed"] for r in results], "num_images": len(images["labels"])}
    for name, measure in MEASURES.items():
        if name == "binary_auc" and not data.startswith("kermany"):
            continue
        scores = {r.record["seed"]: _scores(r, name, folder) for r in results}
        crossed = _crossed(measure, images, {"own": scores}, 0)["own"]
        found[name] = interval(crossed)
        found[name]["seeds"] = {str(s): float(measure(images["labels"], p)) for s, p in scores.items()}
    if data.startswith("isic"):
        rows = ~np.isin(images["keys"], COPIES)
        without = [MEASURES["macro_auc"](images["labels"][rows], r.probabilities[rows]) for r in results]
        found["without_copies"] = {"macro_auc": float(np.mean(without)), "images": int(rows.sum())}
    found["facts"] = {k: v for k, v in results[0].record["facts"].items() if k != "history"}
    seconds = [result.record["facts"].get("training_seconds") for result in results]
    if known := [value for value in seconds if value is not None]:  # one that was there already took none
        found["facts"]["training_seconds"] = float(np.median(known))
    found["repeats"] = sum(r.record["opening"]["repeat"] for r in results)
    return found


def paired(
    data: tuple[str, str],
    methods: tuple[str, str],
    measure: str = "macro_auc",
    folder: Path = RESULTS,
    conditions: tuple[str, str] = ("primary", "primary"),
) -> Difference | None:
    """A measure of the first method less that of the second on the same test images; None where one was not run.

    Of one method under two conditions only the trainings that both have count.

    Args:
        data: the data set of each; the same images, maybe of two sizes.
        methods: two methods.
        measure: name of a measure.
        folder: folder of the results.
        conditions: the condition of each.

    Raises:
        ValueError: when the test images are not the same.
    """
    results = [results_of(d, m, c, folder=folder) for d, m, c in zip(data, methods, conditions, strict=True)]
    if data[0] == data[1] and methods[0] == methods[1]:
        both = {r.record["seed"] for r in results[0]} & {r.record["seed"] for r in results[1]}
        results = [[r for r in own if r.record["seed"] in both] for own in results]
    if not all(results):
        return None
    images = _same_images([*results[0], *results[1]], folder)
    scores = {
        str(number): {r.record["seed"]: _scores(r, measure, folder) for r in own} for number, own in enumerate(results)
    }
    found = _crossed(MEASURES[measure], images, scores, 0)
    return difference(found["0"], found["1"])


def margin(row: dict[str, Any], folder: Path = RESULTS) -> dict[str, Any] | None:
    """Whether a method is not inferior by the protocol's margin; None where one of the two was not run."""
    gap = paired((row["data"], row["data"]), (row["method"], row["reference"]), folder=folder)
    if gap is None:
        return None
    return {**row, **gap._asdict(), "not_inferior": bool(gap.low > -row["margin"])}


def compare_all(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The eleven comparisons with Holm's correction over all of them."""
    found = {name: compare(name, folder) for name in protocol()["comparisons"]["list"]}
    for kind in ("better", "worse"):
        corrected = holm([one[f"p_{kind}"] for one in found.values()])
        for one, p in zip(found.values(), corrected, strict=True):
            one[f"corrected_{kind}"] = p
    for one in found.values():
        one["verdict"] = _verdict(one)
    return found


def compare(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """One comparison: values and differences of the mean over the data sets that were run; p is 1 where none was."""
    settings, overall = protocol()["comparisons"]["list"][name], protocol()["comparisons"]
    subject, each, gaps = overall["subject"], {}, {}
    for method in [subject, *overall["comparators"]]:
        where = [d for d in overall["data"] if _complete(d, method, settings, folder)]
        both = [d for d in where if _complete(d, subject, settings, folder)]
        if where:
            each[method] = {d: _value(d, method, settings, folder) for d in where}
        if method != subject and both:
            gaps[method] = _gap(both, subject, method, settings, folder)
    decided = len(gaps) >= 2 and any(method in END_TO_END for method in gaps)
    ahead, behind = [g.p_value for g in gaps.values() if g.value > 0], [g for g in gaps.values() if g.value < 0]
    return {
        "values": {method: float(np.mean(list(own.values()))) for method, own in each.items()},
        "each": each,
        "data": {method: list(own) for method, own in each.items()},
        "differences": {method: gap._asdict() for method, gap in gaps.items()},
        "decidable": decided,
        "p_better": max(ahead) if decided and not behind and len(ahead) == len(gaps) else 1.0,
        "p_worse": min(1.0, len(gaps) * min(g.p_value for g in behind)) if behind else 1.0,
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p values (1979).

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _verdict(one: dict[str, Any]) -> str:
    if not one["differences"]:
        return "not run"
    if one["corrected_worse"] < 0.05:
        return "lost"
    if not one["decidable"]:
        return "undecided: comparators missing"
    return "won" if one["corrected_better"] < 0.05 else "undecided"


def _value(data: str, method: str, settings: dict[str, Any], folder: Path) -> float:
    """The statistic of one method on one data set, the mean over its seeds and conditions."""
    if settings["metric"] == "auroc":
        results = results_of(data, method, "other_kinds", folder=folder)
        return float(np.mean([kind_auroc(r, kind) for r in results for kind in r.kinds]))
    runs = [r for seeds in _runs(data, method, settings, folder).values() for r in seeds]
    labels = _same_images(runs, folder)["labels"]
    return float(np.mean([MEASURES[settings["metric"]](labels, _scores(r, settings["metric"], folder)) for r in runs]))


def _gap(data: Sequence[str], subject: str, method: str, settings: dict[str, Any], folder: Path) -> Difference:
    """Subject less method, or method less subject where smaller is better, of the mean over data sets."""
    sums: list[list[CrossedResamples]] = [[], []]
    for number, name in enumerate(data):
        found = _of(name, [subject, method], settings, folder, number)
        sums[0].append(found[subject])
        sums[1].append(found[method])
    first, second = map(mean_of, sums)
    return difference(second, first) if settings.get("smaller_is_better") else difference(first, second)


def _of(
    data: str, methods: Sequence[str], settings: dict[str, Any], folder: Path, seed: int
) -> dict[str, CrossedResamples]:
    """The statistic of a comparison on one data set, all methods on the same resamples."""
    if settings["metric"] == "auroc":
        return of_kinds(data, methods, folder, seed)
    runs = {method: _runs(data, method, settings, folder) for method in methods}
    images = _same_images([r for seeds in runs.values() for results in seeds.values() for r in results], folder)
    scores = {
        method: {s: [_scores(r, settings["metric"], folder) for r in results] for s, results in seeds.items()}
        for method, seeds in runs.items()
    }
    return _crossed(MEASURES[settings["metric"]], images, scores, seed)


def of_split(
    data: str, methods: Sequence[str], split: str, measure: str, folder: Path, seed: int
) -> dict[str, CrossedResamples]:
    """A measure on the test images of a split, all methods on the same resamples."""
    results = {method: results_of(data, method, "primary", split, folder) for method in methods}
    images = _same_images([r for own in results.values() for r in own], folder)
    scores = {m: {r.record["seed"]: _scores(r, measure, folder) for r in own} for m, own in results.items()}
    return _crossed(MEASURES[measure], images, scores, seed)


def mean_of(parts: Sequence[CrossedResamples]) -> CrossedResamples:
    """The mean of a statistic over parts that share no image, each with resamples of its own."""
    resampled = np.mean([part.resampled for part in parts], axis=0)
    return CrossedResamples(float(np.mean([part.value for part in parts])), resampled)


def of_kinds(
    data: str, methods: Sequence[str], folder: Path, seed: int, condition: str = "other_kinds"
) -> dict[str, CrossedResamples]:
    results = {method: results_of(data, method, condition, folder=folder) for method in methods}
    images = _same_images([r for own in results.values() for r in own], folder)
    kinds = sorted(results[methods[0]][0].kinds)
    sizes = [len(results[methods[0]][0].kinds[kind]) for kind in kinds]
    labels = np.repeat(np.arange(len(kinds) + 1), [len(images["labels"]), *sizes])
    others = np.asarray([f"other {number}" for number in range(sum(sizes))])
    everything = {"labels": labels, "groups": np.concatenate([images["groups"], others])}
    scores = {
        method: {r.record["seed"]: np.concatenate([r.unlikeness, *(r.kinds[k] for k in kinds)]) for r in own}
        for method, own in results.items()
    }
    return _crossed(kinds_auroc, everything, scores, seed)


def interval(crossed: CrossedResamples) -> dict[str, Any]:
    """A statistic with its interval, which is that of its difference from nothing: ``value``, ``low``, ``high``."""
    found = difference(crossed, CrossedResamples(0.0, np.zeros_like(crossed.resampled)))
    return {"value": found.value, "low": found.low, "high": found.high}


def kind_auroc(result: Result, kind: str) -> float:
    """AUROC of a method's score of unlikeness, of images of one other kind against the test images."""
    own, other = result.unlikeness, result.kinds[kind]
    return float(auroc(np.repeat([0, 1], [len(own), len(other)]), np.concatenate([own, other])))


def kinds_auroc(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
    """Mean over the kinds 1, 2, ... of the AUROC of each against the test images, 0.

    Example:
        >>> float(kinds_auroc([0, 0, 1, 2], [0.1, 0.2, 0.3, 0.15]))  # 1 and 1/2
        0.75
    """
    truth, values = np.asarray(labels), np.asarray(scores)
    found = []
    for kind in range(1, int(truth.max()) + 1):
        rows = (truth == 0) | (truth == kind)
        chosen = None if weights is None else np.asarray(weights)[:, rows]
        found.append(auroc(truth[rows] == kind, values[rows], weights=chosen))
    return np.mean(found, axis=0)


def _crossed(
    measure: Callable[..., Any], images: dict[str, NDArray[Any]], scores: dict[str, Any], seed: int
) -> dict[str, CrossedResamples]:
    settings = protocol()["analysis"]
    options = {"num_resamples": settings["resamples"], "seed": settings["seed"] + seed}
    return crossed_resamples(measure, images["labels"], scores, groups=images["groups"], **options)


def _conditions(settings: dict[str, Any]) -> list[str]:
    """The conditions of a comparison; all images are the condition primary."""
    if settings["runs"] == "learning_curve":
        return ["primary" if f == 1 else f"learning_curve/{f}" for f in settings["fractions"]]
    if settings["runs"] == "label_noise":
        return [f"label_noise/{share}" for share in settings["shares"]]
    if settings["runs"] == "corruption":
        strengths = protocol()["corruptions"]
        return [f"corruption/{kind}/{strength}" for kind in settings["kinds"] for strength in strengths[kind]]
    return [settings["runs"]]


def _runs(data: str, method: str, settings: dict[str, Any], folder: Path) -> dict[int, list[Result]]:
    """Seed -> the results of all conditions; a method without randomness has one seed where nothing is drawn."""
    by_condition = [
        {r.record["seed"]: r for r in results_of(data, method, condition, folder=folder)}
        for condition in _conditions(settings)
    ]
    seeds = sorted(set().union(*by_condition))
    filled = [dict.fromkeys(seeds, own[0]) if list(own) == [0] else own for own in by_condition]
    return {s: [own[s] for own in filled] for s in seeds if all(s in own for own in filled)}


def _complete(data: str, method: str, settings: dict[str, Any], folder: Path) -> bool:
    if settings["metric"] == "auroc":
        own = results_of(data, method, "other_kinds", folder=folder)
        return bool(own) and all(r.kinds and len(r.unlikeness) for r in own)
    return bool(_runs(data, method, settings, folder))


def _scores(result: Result, measure: str, folder: Path) -> NDArray[np.float64]:
    """Probabilities of the test images, calibrated on validation where the measure asks for it."""
    if measure != "calibrated_ece":
        return result.probabilities
    labels = read_images(result.record["validation"], folder)["labels"]
    return calibrated(result.probabilities, temperature(labels, result.validation))


def _same_images(results: Sequence[Result], folder: Path) -> dict[str, NDArray[Any]]:
    digests = {r.record["test"] for r in results}
    if len(digests) != 1:
        names = sorted({f"{r.record['data']}/{r.record['method']}" for r in results})
        raise ValueError(f"results: expected the same test images in the same order, {', '.join(names)} have others")
    return read_images(digests.pop(), folder)
