"""Write a bundle's predictions and results anew from its stored errors, without a network evaluation.

    python -m tools.recompute_results --bundle bundles/pneumonia_xray_diffusion
    python -m tools.recompute_results --bundle bundles/pneumonia_xray_resnet18 --metrics

Uses the weighting and temperature of the bundle's ``configs/evaluate.json`` and its decision: the most probable class.
``--metrics`` computes the metrics alone anew, from the tables of predictions; threshold, commit and the rest stay as
recorded, and so does a number that differs in its last digits only. It prints what changed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from monai_diffclf.bundle import open_bundle
from monai_diffclf.handlers import ErrorsSaver, EvaluationSaver, read_results
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.handlers.publish import FACTS, NOT_OF_PROBABILITIES, RECORDED, entries, table_of
from monai_diffclf.storage import load_errors
from monai_diffclf.storage.atomic_file import replace_text


def merged(old: Any, new: Any) -> Any:
    """The new results, with the old number where the two differ by the order of a sum only."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: merged(old[name], value) if name in old else value for name, value in new.items()}
    rounded = isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-12)
    return old if rounded else new


def changes(old: Any, new: Any, path: str = "") -> tuple[int, list[str], list[str]]:
    """How many entries are the same in the new results, the paths of those that are not, and those that are new."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return (1, [], []) if old == new else (0, [path], [])
    same, changed, added = 0, [f"{path}/{name}" for name in old if name not in new], []
    for name, value in new.items():
        found = changes(old[name], value, f"{path}/{name}") if name in old else (0, [], [f"{path}/{name}"])
        same, changed, added = same + found[0], changed + found[1], added + found[2]
    return same, changed, added


def recompute_metrics(docs: Path, num_resamples: int = 2000) -> tuple[int, list[str], list[str]]:
    """Metrics of each seed and of all together, from the tables of predictions; returns the `changes`."""
    path = docs / "results.json"
    before = read_results(path)
    with tempfile.TemporaryDirectory() as folder:
        for split, model, old in entries(before):
            table = read_predictions(table_of(docs, split, model, old["seed"], old.get("classes", ())))
            # By its number: a finding in a model's name is text.
            place = list(before[split]).index(model)
            saver = EvaluationSaver(
                f"{folder}/{split}_{place}_{{seed}}.csv",
                f"{folder}/results.json",
                split=split,
                model=model,
                num_resamples=num_resamples,
                facts={name: old[name] for name in FACTS if name in old},
                **{name: old[name] for name in RECORDED},
            )
            further = {name: old[name] for name in NOT_OF_PROBABILITIES if name in old}
            rows = (table["keys"].tolist(), table["patients"].tolist(), table["labels"], table["probabilities"])
            saver.save(*rows, further=further)
        after = merged(before, read_results(f"{folder}/results.json"))
    if not after:
        raise ValueError(f"bundle: expected results in {path}, found none; run the evaluation.")
    replace_text(path, json.dumps(after, indent=2, allow_nan=False) + "\n")
    return changes(before, after)


def recompute_all(bundle: Path) -> None:
    """Predictions and results from the errors."""
    config, docs = open_bundle(bundle, "train.json", "evaluate.json"), bundle / "docs"
    folder, before = docs / "evaluation", read_results(docs / "results.json")
    for split in ("validation", "test"):
        for path in sorted(folder.glob(f"errors_{split}_seed_*.npz")):
            stored = load_errors(path)
            config.parser["num_draws"] = stored.errors.num_draws
            saver = ErrorsSaver(
                folder,
                config.get("evaluate#inferer"),
                docs / "results.json",
                split=split,
                data=next(iter(before[split].values()))["data"],
                seed=int(path.stem.rsplit("_", 1)[1]),
                threshold=0.5,
                commit_root=bundle,
            )
            saver.save(stored.errors, stored.labels, stored.keys, stored.patients, provenance=stored.provenance)
            print(f"{split} seed {saver.seed}: {len(stored.keys)} images, {stored.errors.num_draws} draws")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--metrics", action="store_true", help="the metrics alone, from the tables of predictions")
    args = parser.parse_args()
    if not args.metrics:
        recompute_all(args.bundle)
        return
    same, changed, added = recompute_metrics(args.bundle / "docs")
    names = sorted({path.rsplit("/", 1)[1] for path in added})
    print(f"{args.bundle.name}: {same} entries as before, changed: {changed}, new: {names} in {len(added)} places")


if __name__ == "__main__":
    main()
