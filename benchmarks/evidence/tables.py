"""Write the tables of ``docs/evidence.md`` from the result files.

    python -m benchmarks.evidence.tables            # summary.json from all results, then the tables
    python -m benchmarks.evidence.tables --kept     # the tables alone, from the summary.json that is there
    python -m benchmarks.evidence.tables --check    # exit code 1 where the document differs from summary.json

The words of the document stay; what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.evidence.analysis import compare_all, margin, method_metrics, paired
from benchmarks.evidence.conditions import trained_as
from benchmarks.evidence.few_draws import few_draws_of
from benchmarks.evidence.folds import folds_of, folds_rows
from benchmarks.evidence.kinds import kinds_of, kinds_rows
from benchmarks.evidence.ledger import LEDGER, read_ledger
from benchmarks.evidence.markdown import as_table, filled, in_words
from benchmarks.evidence.protocol import RESULTS, ROOT, protocol, protocol_hash
from monai_diffclf.storage.atomic_file import replace_text

DOCUMENT = ROOT / "docs" / "evidence.md"
SUMMARY = RESULTS / "summary.json"
ADDED = Path(__file__).with_name("added.json")  # questions that came after the protocol, in its form
_NAMES = {
    "few_images": "few images (2, 5, 10 %)",
    "more_images": "more images (25, 50, 100 %)",
    "shortcut": "planted shortcut",
    "noise": "noise",
    "detail": "blur, resolution",
    "intensity": "contrast, gamma",
    "compression": "compression",
    "label_noise": "label noise (10, 20, 40 %)",
    "other_kinds": "images of other kinds",
    "selective": "selective prediction, AURC",
    "calibration": "calibration error",
}


def summarise(folder: Path = RESULTS, ledger: Path = LEDGER) -> dict[str, Any]:
    """All numbers of the document."""
    settings = protocol()
    splits = {d: ["test", *(f"fold{k}" for k in range(s["folds"]))] for d, s in settings["data"].items()}
    metrics = {
        data: {
            split: {m: found for m in settings["methods"] if (found := method_metrics(data, m, split, folder))}
            for split in splits[data]
        }
        for data in settings["data"]
    }
    return {
        "protocol": protocol_hash(),
        "metrics": {d: {s: found for s, found in own.items() if found} for d, own in metrics.items()},
        **answers(settings, folder),
        "added": {**answers(added(), folder), **later(added(), folder)},
        "folds": folds_of(folder=folder),
        "comparisons": compare_all(folder),
        "openings": _openings(read_ledger(ledger)),
    }


def added() -> dict[str, Any]:
    """The content of ``added.json``."""
    content: dict[str, Any] = json.loads(ADDED.read_text(encoding="utf-8"))
    return content


def answers(asked: dict[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The differences that questions ask for, of those whose methods were run."""
    superior = []
    for row in asked["superiority"]:
        other, method = row["reference"].split("/")
        gap = paired((row["data"], other), (row["method"], method), folder=folder)
        superior += [{**row, **gap._asdict(), "superior": bool(gap.low > 0)}] if gap else []
    return {
        "margins": [found for row in asked["margins"] if (found := margin(row, folder))],
        "superiority": superior,
    }


def later(asked: dict[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What longer trainings, few draws and scores of unlikeness reach, of those that were run."""
    found: dict[str, list[dict[str, Any]]] = {"longer": [], "few_draws": [], "kinds": kinds_of(asked["kinds"], folder)}
    for row in asked["longer"]:
        condition = row.get("condition", "longer")
        if measured := method_metrics(row["data"], row["method"], folder=folder, condition=condition):
            pair = (row["data"], row["data"]), (row["method"], row["shipped"])
            gap = paired(*pair, folder=folder, conditions=(condition, "primary"))
            found["longer"].append({**row, **measured, "gap": gap and gap._asdict()})
    for row in asked["few_draws"]["of"]:
        if few := few_draws_of(row["data"], row["method"], row["condition"], folder):
            found["few_draws"].append(few)
    return found


def _openings(lines: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How often each data set was opened, and how many of these looks were repeats or of another protocol."""
    found: dict[str, Counter[str]] = {}
    for line in lines:
        counts = found.setdefault(line["data"], Counter(openings=0, repeats=0, other_protocol=0))
        counts.update(openings=1, repeats=line["repeat"], other_protocol=line["protocol"] != protocol_hash())
    return {data: dict(counts) for data, counts in sorted(found.items())}


def tables(summary: dict[str, Any]) -> dict[str, str]:
    """Name of each table -> Markdown."""
    return {
        "methods": _methods(summary),
        "copies": _copies(summary),
        "questions": _questions(protocol(), summary, summary["metrics"]),
        "added": _questions(added(), summary["added"], summary["metrics"]),
        "longer": _longer(summary["added"]["longer"]),
        "few_draws": _few_draws(added()["few_draws"], summary["added"]["few_draws"]),
        "kinds": as_table(*kinds_rows(added()["kinds"], summary["added"]["kinds"])),
        "folds": as_table(*folds_rows(summary["folds"])),
        "comparisons": _comparisons(summary),
        "selective": _other(summary),
        "cost": _cost(summary),
        "openings": _opening_rows(summary),
    }


def _methods(summary: dict[str, Any]) -> str:
    rows = []
    for data, splits in summary["metrics"].items():
        for method, found in splits.get("test", {}).items():
            more = [
                in_words(found["binary_auc"]) if "binary_auc" in found else "",
                in_words(found["balanced_accuracy"]),
            ]
            note = f"{len(found['seeds'])}" + (f", {found['repeats']} repeated" if found["repeats"] else "")
            rows.append([f"`{data}`", f"`{method}`", note, in_words(found["macro_auc"]), *more])
    return as_table(["data", "method", "seeds", "macro AUC", "normal against the rest", "balanced accuracy"], rows)


def _copies(summary: dict[str, Any]) -> str:
    rows = [
        [
            f"`{data}`",
            f"`{method}`",
            f"{found['macro_auc']['value']:.4f}",
            f"{found['without_copies']['macro_auc']:.4f}",
        ]
        for data, splits in summary["metrics"].items()
        for method, found in splits.get("test", {}).items()
        if "without_copies" in found
    ]
    return as_table(["data", "method", "macro AUC, all 600", "without the four copies"], rows)


def _questions(asked: dict[str, Any], answered: dict[str, Any], metrics: dict[str, Any]) -> str:
    rows = [
        [f"`{r['data']}`", f"`{r['method']}` against `{r['reference']}`", f"not inferior, {r['margin']}", in_words(r),
         "yes" if r["not_inferior"] else "not shown"]
        for r in answered["margins"]
    ]  # fmt: skip
    rows += [
        [f"`{r['data']}`", f"`{r['method']}` against `{r['reference']}`", "superior", in_words(r),
         "yes" if r["superior"] else "not shown"]
        for r in answered["superiority"]
    ]  # fmt: skip
    for data, figures in asked["figures"].items():
        for method, figure in figures.items():
            for name, value in figure.items():
                found = metrics.get(data, {}).get("test", {}).get(method, {}).get(name)
                reached = "" if found is None else "yes" if found["value"] >= value else "no"
                rows.append(
                    [f"`{data}`", f"`{method}`", f"{name} at least {value:.2f}", in_words(found), reached or "not run"]
                )
    for name in ("margins", "superiority"):
        for r in asked[name]:
            if not _has(answered[name], r):
                what = f"not inferior, {r['margin']}" if "margin" in r else "superior"
                rows.append([f"`{r['data']}`", f"`{r['method']}` against `{r['reference']}`", what, "", "not run"])
    return as_table(["data", "method", "asked", "found", "holds"], rows)


def _longer(found: list[dict[str, Any]]) -> str:
    rows = []
    for row in found:
        reached = "yes" if row["macro_auc"]["value"] >= row["figure"] else "no"
        values = [
            in_words(row["macro_auc"]),
            f"{row['figure']:.2f}",
            reached,
            in_words(row["balanced_accuracy"]),
            in_words(row["gap"]),
        ]
        other = f", {row['condition']}" if "condition" in row else ""
        rows.append([f"`{row['data']}`", f"`{row['method']}`{other}", f"{len(row['seeds'])}", *values])
    heads = [
        "data",
        "method",
        "seeds",
        "macro AUC",
        "asked at least",
        "reached",
        "balanced accuracy",
        "less `diffusion_pixels`",
    ]
    return as_table(heads, rows)


def _few_draws(asked: dict[str, Any], found: list[dict[str, Any]]) -> str:
    rows = []
    for row in found:
        close = abs(row["value"]) <= asked["gap"]
        few = row["first"] >= asked["first"] and row["agreement"] >= asked["agreement"]
        rows.append(
            [f"`{row['data']}`", f"`{row['method']}`" + _other_training(row["condition"]),
             f"{len(row['seeds'])}", f"{row['one']:.3f}", f"{row['all']:.3f}", in_words(row), "yes" if close else "no",
             f"{row['evaluations']:.1f}", f"{row['first']:.1%}", f"{row['agreement']:.1%}", "yes" if few else "no"]
        )  # fmt: skip
    heads = ["data", "method", "seeds", "one draw", "all 51", "difference", f"within {asked['gap']}",
             "evaluations by the stopping rule", "no more than K + 1", "class of all draws",
             f"{asked['first']:.0%} and {asked['agreement']:.0%}"]  # fmt: skip
    return as_table(heads, rows)


def _other_training(condition: str) -> str:
    """Which training it was, where it is not the primary one."""
    kind = trained_as(condition)
    return "" if kind == "primary" else f", {kind}"


def _has(found: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    return any(all(one[name] == row[name] for name in ("data", "method", "reference")) for one in found)


def _comparisons(summary: dict[str, Any]) -> str:
    settings = protocol()["comparisons"]
    rows = []
    for name, found in summary["comparisons"].items():
        values = [f"{found['values'][m]:.3f} ({_short(found['data'][m])})" if m in found["values"] else ""
                  for m in _compared()]  # fmt: skip
        gaps = [in_words(found["differences"].get(m)) for m in settings["comparators"]]
        rows.append([_NAMES[name], *values, *gaps, found["verdict"]])
    heads = [f"`{m}`" for m in _compared()] + [f"less `{m}`" for m in settings["comparators"]]
    return as_table(["comparison", *heads, "verdict"], rows)


def _short(data: list[str]) -> str:
    return ", ".join(name.partition("_")[0].rstrip("0123456789") for name in data)


def _compared() -> list[str]:
    return [protocol()["comparisons"]["subject"], *protocol()["comparisons"]["comparators"]]


def _other(summary: dict[str, Any]) -> str:
    rows = [
        [f"`{data}`", f"`{method}`", *(in_words(found[n]) for n in ("aurc", "ece", "calibrated_ece", "log_loss"))]
        for data, splits in summary["metrics"].items()
        for method, found in splits.get("test", {}).items()
    ]
    return as_table(["data", "method", "AURC", "calibration error", "calibrated on validation", "log-loss"], rows)


def _cost(summary: dict[str, Any]) -> str:
    rows = []
    for data, splits in summary["metrics"].items():
        for method, found in splits.get("test", {}).items():
            facts = found["facts"]
            parameters = "" if facts.get("parameters") is None else f"{facts['parameters']:,}"
            seconds = "" if facts.get("training_seconds") is None else f"{facts['training_seconds']:.0f}"
            rows.append([f"`{data}`", f"`{method}`", seconds, parameters, f"{facts.get('evaluations', '')}"])
    heads = ["data", "method", "seconds of training", "parameters trained", "network evaluations an image"]
    return as_table(heads, rows)


def _opening_rows(summary: dict[str, Any]) -> str:
    rows = [
        [f"`{data}`", f"{n['openings']}", f"{n['repeats']}", f"{n['other_protocol']}"]
        for data, n in summary["openings"].items()
    ]
    return as_table(["data", "openings", "repeated looks", "under another protocol"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--kept", action="store_true")
    args = parser.parse_args()
    check = args.check
    if not (check or args.kept):
        replace_text(SUMMARY, json.dumps(summarise(), indent=1) + "\n")
    old = DOCUMENT.read_text(encoding="utf-8")
    new = filled(old, tables(json.loads(SUMMARY.read_text(encoding="utf-8"))))
    if check and new != old:
        print(
            f"{DOCUMENT}: its tables are not those of {SUMMARY}; run python -m benchmarks.evidence.tables",
            file=sys.stderr,
        )
        return 1
    if not check:
        replace_text(DOCUMENT, new)
    print(DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
