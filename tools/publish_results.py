"""Make the figures of a run a bundle's own: tables, errors and results go from the run's folder to ``docs``.

    python -m tools.publish_results bundles/pneumonia_xray_diffusion --run bundles/pneumonia_xray_diffusion/runs/seed_0

An evaluation writes into the run's folder only. This takes what it wrote there (``evaluation`` or ``predictions`` and
``results.json``), merges it into the bundle's ``docs/results.json``, whose other seeds stay, and copies the tables, the
stored errors and, as ``docs/training/seed_N.json``, what the weights say of themselves. Results on other images than
those that ``docs`` holds are refused without ``--replace``, as they would take their place.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from monai_diffclf.handlers import EvaluationSaver, read_results
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.handlers.results import comparable
from monai_diffclf.storage.atomic_file import replaced
from tools.recompute_results import NOT_OF_PROBABILITIES, RECORDED, entries, table_of

FACTS = ("weights", "weights_hash", "data_hash", "classes")


def check(docs: Path, found: list[tuple[str, str, dict[str, Any]]], replace: bool) -> None:
    """Refuse to put results in place of others that measured something else."""
    before = read_results(docs / "results.json")
    for split, model, entry in found:
        seeds = before.get(split, {}).get(model, {}).get("seeds", {})
        others = {number: old for number, old in seeds.items() if not comparable(old, entry)}
        if others and not replace:
            old = next(iter(others.values()))
            raise ValueError(
                f"run: its {split} results of {model} are of {_measured(entry)}, those of seed {', '.join(others)} in "
                f"{docs / 'results.json'} of {_measured(old)}; give --replace to drop the latter"
            )


def _measured(entry: dict[str, Any]) -> str:
    return f"{entry['data']!r} ({entry['num_images']} images, {entry['num_draws']} draws)"


def shown_path(weights: str, bundle: Path) -> str:
    """A path of weights as it may be published: from the bundle, or the file's name alone."""
    inside = os.path.relpath(weights, bundle)
    return Path(weights).name if inside.startswith("..") else inside


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that the target is either the old one or the whole new one."""
    with replaced(target) as temporary:
        shutil.copyfile(source, temporary)


def publish(bundle: Path, run: Path, *, replace: bool = False, num_resamples: int = 2000) -> list[str]:
    """Publish the results of a run; returns what was published, a text an evaluation.

    Raises:
        ValueError: when the run holds no results, the bundle holds some of other images, or is none.
    """
    docs, results = bundle / "docs", read_results(run / "results.json")
    found = list(entries(results))
    if not found:
        raise ValueError(f"run: expected results in {run / 'results.json'}, found none; run the evaluation")
    if not bundle.is_dir():
        raise ValueError(f"bundle: expected the folder of a bundle, got {bundle}, which is none")
    check(docs, found, replace)
    tables = [table_of(run, split, model, entry["seed"]) for split, model, entry in found]
    published = []
    for (split, model, entry), table in zip(found, tables, strict=True):
        seed, folder = entry["seed"], docs / table.parent.name
        facts = {name: entry[name] for name in FACTS if name in entry}
        if "weights" in facts:
            facts["weights"] = shown_path(facts["weights"], bundle)
        saver = EvaluationSaver(
            folder / table.name.replace(f"seed_{seed}", "seed_{seed}"),
            docs / "results.json",
            split=split,
            model=model,
            classes=facts.get("classes"),
            facts=facts,
            num_resamples=num_resamples,
            **{name: entry[name] for name in RECORDED},
        )
        rows = read_predictions(table)
        further = {name: entry[name] for name in NOT_OF_PROBABILITIES if name in entry}
        arrays = (rows["keys"].tolist(), rows["patients"].tolist(), rows["labels"], rows["probabilities"])
        saver.save(*arrays, further=further)
        for stored in table.parent.glob(f"*{split}_seed_{seed}.npz"):
            copy_whole(stored, folder / stored.name)
        published.append(f"{split} {model} seed {seed}: {entry['num_images']} images of {entry['data']}")
        if (note := run / "model.json").is_file():
            copy_whole(note, docs / "training" / f"seed_{seed}.json")
    return published


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, which holds results.json")
    parser.add_argument("--replace", action="store_true", help="drop results of other images or draws")
    args = parser.parse_args()
    try:
        print("\n".join(publish(args.bundle, args.run, replace=args.replace)))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
