"""How well the X-ray model notices images that are none of its kind: other modalities and corrupted X-rays.

    python -m benchmarks.uncertainty.out_of_distribution compute --dataset_dir PNEUMONIAMNIST --dermoscopy DIR
        --ultrasound DIR
    python -m benchmarks.uncertainty.out_of_distribution report

``compute`` writes the errors and coarse error maps of each kind, and of test X-rays as they are, to
``docs/evaluation/errors_ood_KIND.npz`` of the pneumonia bundle (kinds that are there already are left alone); DIR
holds a table ``labels.csv`` with the column ``file``; colour becomes grey.
``report`` needs neither network nor images: it fits the typicality to the validation errors and writes the area under
the ROC curve, in which images of the test set are to score lower than those of each kind, to
``benchmarks/results/out_of_distribution.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.data import load_datalist
from monai_diffclf.data.table_rows import read_rows
from monai_diffclf.engines import compute_dataset_errors
from monai_diffclf.metrics import bootstrap_interval, roc_auc
from monai_diffclf.storage import StoredErrors, load_errors
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import Typicality, fit_typicality, likelihood_score

BUNDLE = BUNDLES / "pneumonia_xray_diffusion"
EVALUATION = BUNDLE / "docs" / "evaluation"
GRID = 4
Array = np.ndarray[Any, Any]

CORRUPTIONS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "none": lambda image, _: image,
    "noise": lambda image, rng: np.clip(image + 0.1 * rng.standard_normal(image.shape), 0, 1),
    "blur": lambda image, _: gaussian_filter(image, 1.0),
    "inversion": lambda image, _: 1 - image,
    "rotation": lambda image, _: np.rot90(image).copy(),
}
FOREIGN = {"dermoscopy": ("split", "test"), "ultrasound": ("split_own", "test")}


def corrupted(dataset_dir: str, kind: str, count: int) -> list[dict[str, Any]]:
    """Test X-rays, evenly spaced through the set, with one corruption."""
    items = load_datalist(
        dataset_dir, "test", classes=["normal", "pneumonia"], patients=BUNDLE / "configs" / "patients.csv"
    )
    chosen = [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
    rng = np.random.default_rng(0)
    spoil = CORRUPTIONS[kind]
    return [
        {**item, "image": spoil(np.asarray(item["image"], dtype=np.float64) / 255, rng).astype(np.float32)}
        for item in chosen
    ]


def foreign(folder: Path, kind: str, count: int) -> list[dict[str, Any]]:
    """Grey images of another modality."""
    column, split = FOREIGN[kind]
    rows = [row for row in read_rows(folder / "labels.csv", ("file", column)) if row[column] == split]
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    return [
        {
            "image": np.asarray(Image.open(folder / row["file"]).convert("L")),
            "label": -1,
            "key": row["file"],
            "patient": "",
        }
        for row in rows
    ]


def compute(args: argparse.Namespace) -> None:
    config = open_bundle(BUNDLE, "inference.json")
    network, inferer = config.get("network"), config.get("inferer")
    read = config.get("preprocessing")
    sources = {kind: Path(getattr(args, kind)) for kind in FOREIGN}
    for kind in (*FOREIGN, *CORRUPTIONS):
        path = EVALUATION / f"errors_ood_{kind}.npz"
        if path.is_file() and load_errors(path).maps is not None:
            continue
        if kind in FOREIGN:
            items = foreign(sources[kind], kind, args.images)
        else:
            items = corrupted(args.dataset_dir, kind, args.images)
        stored = compute_dataset_errors(
            [read(item) for item in items],  # type: ignore[arg-type]
            network,
            inferer=inferer,
            description=kind,
            grid=GRID,
        )
        stored.save(path)


def separation(inside: torch.Tensor, outside: torch.Tensor) -> dict[str, float]:
    """Area under the ROC curve of two groups of scores, with its interval."""
    labels = np.r_[np.zeros(len(inside)), np.ones(len(outside))].astype(int)
    scores = torch.cat([inside, outside]).double().numpy()
    return bootstrap_interval(roc_auc, labels, scores, strata=labels)._asdict()


def report() -> None:
    validation = load_errors(EVALUATION / "errors_validation_draws_51.npz")
    plain = fit_typicality(validation.errors, groups=validation.patients)
    fitted = fit_typicality(validation.errors, error_maps=validation.maps, grid=GRID, groups=validation.patients)
    scores: dict[str, Callable[[StoredErrors], torch.Tensor]] = {
        "typicality": lambda stored: fitted.score(stored.errors, stored.maps),
        "typicality_without_maps": lambda stored: plain.score(stored.errors),
        "likelihood": lambda stored: likelihood_score(stored.errors),
    }
    inside = load_errors(EVALUATION / "errors_ood_none.npz")
    content: dict[str, Any] = {
        "data": "PneumoniaMNIST, 28 px, seed 0, 51 draws",
        "num_test": len(inside.keys),
        "share_of_test_with_p_below_0.01": flagged(fitted, inside),
        "kinds": {},
    }
    for kind in (*FOREIGN, *CORRUPTIONS):
        if kind == "none":
            continue
        other = load_errors(EVALUATION / f"errors_ood_{kind}.npz")
        entry: dict[str, Any] = {"num_images": len(other.keys), "share_with_p_below_0.01": flagged(fitted, other)}
        for name, score in scores.items():
            entry[name] = separation(score(inside), score(other))
        content["kinds"][kind] = entry
        found = (f"{n} {entry[n]['value']:.3f} ({entry[n]['low']:.3f} to {entry[n]['high']:.3f})" for n in scores)
        print(kind, len(other.keys), *found, f"p < 0.01: {entry['share_with_p_below_0.01']:.2f}")
    print(f"test images with p < 0.01: {content['share_of_test_with_p_below_0.01']:.3f}")
    replace_text(RESULTS / "out_of_distribution.json", json.dumps(content, indent=1) + "\n")


def flagged(fitted: Typicality, stored: StoredErrors) -> float:
    """Share of the images that would be called untypical at p < 0.01."""
    return float((fitted.p_value(stored.errors, stored.maps) < 0.01).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    computing = commands.add_parser("compute")
    computing.add_argument("--dataset_dir", required=True)
    computing.add_argument("--images", type=int, default=150, help="of each kind")
    for kind in FOREIGN:
        computing.add_argument(f"--{kind}", required=True)
    commands.add_parser("report")
    args = parser.parse_args()
    if args.command == "compute":
        compute(args)
    else:
        report()


if __name__ == "__main__":
    main()
