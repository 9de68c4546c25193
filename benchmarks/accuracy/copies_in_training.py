"""Test images of ISIC 2017 that are training images too, and the figures without them; no network.

    python -m benchmarks.accuracy.copies_in_training [--dataset_dir DATA]

Looks for copies of test images among the training and validation images: the same pixels, or thumbnails that agree to
.998 (another compression of the same picture), and near-duplicates (the same lesion in another picture). Without DATA
those found before are taken. Recomputes macro AUC and balanced accuracy of the stored predictions of the skin lesion
bundles without the copies of training images, and without all that resemble a training or validation image. Writes
``benchmarks/results/isic2017_copies.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.data import audit_splits, load_datalist
from monai_diffclf.data.isic2017 import CLASSES
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.metrics import classification_metrics, paired_difference_interval, roc_auc
from monai_diffclf.storage import rows_of_images
from monai_diffclf.storage.atomic_file import replace_text

OUTPUT = RESULTS / "isic2017_copies.json"
SAME_PICTURE = 0.998
TABLES = {
    "diffusion_vote": BUNDLES / "skin_lesion_diffusion" / "docs" / "evaluation" / "test_diffusion_vote_seed_0.csv",
    "diffusion_mean": BUNDLES / "skin_lesion_diffusion" / "docs" / "evaluation" / "test_diffusion_mean_seed_0.csv",
    "resnet18": BUNDLES / "skin_lesion_resnet18" / "docs" / "predictions" / "test_seed_0.csv",
}
Table = dict[str, Any]
Array = np.ndarray[Any, Any]


def find_copies(dataset_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Test images that equal or resemble an image of another split: which, and how much."""
    splits = {
        name: load_datalist(dataset_dir, name, classes=list(CLASSES), label_type="index")
        for name in ("train", "validation", "test")
    }
    audit = audit_splits(splits, classes=list(CLASSES), progress=True)
    pairs = [(a, b, 1.0) for found in audit.identical.values() for a in found for b in found if a < b]
    pairs += [(near.first, near.second, near.similarity) for near in audit.near_duplicates]
    found: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for one, two, similarity in pairs:
        ends = {one[0]: one, two[0]: two}
        if "test" not in ends or len(ends) < 2:
            continue
        (split,) = set(ends) - {"test"}
        found[split].append(
            {
                "test": ends["test"][1],
                "other": ends[split][1],
                "classes": [ends["test"][2], ends[split][2]],
                "similarity": round(similarity, 4),
                "same_picture": similarity > SAME_PICTURE,
            }
        )
    return {split: sorted(rows, key=lambda row: (-row["similarity"], row["test"])) for split, rows in found.items()}


def figures(tables: dict[str, Table], without: set[str]) -> dict[str, Any]:
    """Metrics of each model without some images, and the difference in macro AUC to the ResNet."""
    keys = next(iter(tables.values()))["keys"]
    unknown = without - set(keys)
    if unknown:
        raise ValueError(f"without: expected test images of the tables, got {sorted(unknown)[:3]}")
    kept = np.array([key not in without for key in keys])
    labels = next(iter(tables.values()))["labels"][kept]
    content: dict[str, Any] = {"num_images": int(kept.sum())}
    for name, table in tables.items():
        metrics = classification_metrics(labels, table["probabilities"][kept])
        each = [roc_auc(labels == k, table["probabilities"][kept][:, k]) for k in range(len(CLASSES))]
        content[name] = {metric: metrics[metric] for metric in ("auc", "balanced_accuracy")}
        content[name]["auc_of_each_class"] = {name: float(auc) for name, auc in zip(CLASSES, each, strict=True)}
    for name in ("diffusion_vote", "diffusion_mean"):
        pair = (tables[name]["probabilities"][kept], tables["resnet18"]["probabilities"][kept])
        content[name]["auc_less_resnet18"] = paired_difference_interval(macro_auc, labels, *pair)._asdict()
    return content


def macro_auc(labels: Array, probabilities: Array, *, weights: Array) -> Array:
    """AUC of each class against the rest, mean over the classes, one value a resample [R]."""
    columns = range(probabilities.shape[1])
    return np.mean([roc_auc(labels == k, probabilities[:, k], weights=weights) for k in columns], axis=0)


def read_tables() -> dict[str, Table]:
    """The stored predictions, all in the order of the first."""
    tables = {name: read_predictions(path) for name, path in TABLES.items()}
    first = next(iter(tables.values()))
    for name, table in tables.items():
        pair = {"labels": first["labels"], "table_labels": table["labels"]}
        rows = rows_of_images(first["keys"], table["keys"], **pair, what=name)
        tables[name] = {column: table[column][rows] for column in ("keys", "labels", "probabilities")}
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path)
    args = parser.parse_args()
    found_before = json.loads(OUTPUT.read_text())["copies"] if args.dataset_dir is None else None
    copies, tables = found_before or find_copies(args.dataset_dir), read_tables()
    same = {row["test"] for row in copies["train"] if row["same_picture"]}
    alike = {row["test"] for rows in copies.values() for row in rows}
    content = {
        "data": "ISIC 2017, 256 px",
        "copies": copies,
        "num_same_picture": {
            split: len({r["test"] for r in rows if r["same_picture"]}) for split, rows in copies.items()
        },
        "num_alike": {split: len({r["test"] for r in rows}) for split, rows in copies.items()},
        "all": figures(tables, set()),
        "without_copies": figures(tables, same),
        "without_alike": figures(tables, alike),
    }
    replace_text(OUTPUT, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
