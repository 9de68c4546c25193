"""Which rule tells an inverted image: that its negative is more typical, or that it resembles the mean image less.

    python -m benchmarks.uncertainty.inverted compute BUNDLE --dataset_dir DATA [--label_type index] --foreign DIR
    python -m benchmarks.uncertainty.inverted report

``compute`` makes the errors of the negatives of a bundle's validation images, and of images of
another kind (validation images of DIR, a folder with a table ``labels.csv``) and their negatives; they are kept in
``--work`` (default: the temporary folder). No test image is read. ``report`` needs neither network nor images: it
judges the validation images in five folds by patients, each fold and its negatives by a typicality fitted to the
others, and writes to ``benchmarks/results/inverted.json`` for each rule the share of images as they are, of negatives,
and of images of another kind, that it calls inverted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import GroupKFold

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf._patients import patient_codes
from monai_diffclf._spread import spread
from monai_diffclf.bundle import open_bundle
from monai_diffclf.data.table_rows import read_rows
from monai_diffclf.engines import compute_dataset_errors
from monai_diffclf.storage import StoredErrors, load_errors, rows_of_images
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import Typicality, fit_mean_image, fit_typicality

UNTYPICAL = 0.01
NUM_FOREIGN = 100
Array = np.ndarray[Any, Any]


def foreign_images(folder: Path, channels: int, size: list[int]) -> list[dict[str, Any]]:
    """Images of another kind, evenly spaced through the validation split."""
    rows = list(read_rows(folder / "labels.csv", ("file",)))
    column = next(name for name in ("split", "split_own") if name in rows[0].fields)
    rows = [row for row in rows if row[column] in ("val", "validation")]
    rows = spread(rows, NUM_FOREIGN)
    items = []
    for row in rows:
        picture = Image.open(folder / row["file"]).convert("L" if channels == 1 else "RGB").resize(size[::-1])
        array = np.asarray(picture).reshape(*size, channels).transpose(2, 0, 1)
        image = torch.from_numpy(array.astype(np.float32)) / 127.5 - 1
        items.append({"image": image, "label": -1, "key": row["file"], "patient": ""})
    return items


def compute(args: argparse.Namespace) -> None:
    """Errors of the negatives, and of the images of another kind."""
    settings = {"dataset_dir": args.dataset_dir} | ({"label_type": args.label_type} if args.label_type else {})
    config = open_bundle(args.bundle, "train.json", "evaluate.json", progress=False, **settings)
    network, inferer = (config.get(f"evaluate#{name}") for name in ("network", "inferer"))
    validation = list(config.get("validate#dataset"))
    channels, size = validation[0]["image"].shape[0], list(validation[0]["image"].shape[1:])
    foreign = foreign_images(args.foreign, channels, size)
    negative = {
        kind: [{**item, "image": -torch.as_tensor(item["image"])} for item in items]
        for kind, items in (("validation", validation), ("foreign", foreign))
    }
    means = torch.stack([torch.as_tensor(item["image"]) for item in validation])
    keys = [(str(item["key"]), str(item["patient"]), int(item["label"])) for item in validation]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    args.work.mkdir(parents=True, exist_ok=True)
    np.savez(
        args.work / f"{args.bundle.name}_images.npz",
        validation=means[order].numpy(),
        foreign=np.stack([item["image"].numpy() for item in sorted(foreign, key=lambda item: str(item["key"]))]),
    )
    for name, items in (
        ("foreign", foreign),
        ("foreign_negative", negative["foreign"]),
        ("validation_negative", negative["validation"]),
    ):
        made = compute_dataset_errors(items, network, inferer=inferer, description=name)
        made.save(args.work / f"{args.bundle.name}_{name}.npz")


def judge(typicality: Typicality, stored: StoredErrors, rows: Array, images: torch.Tensor) -> tuple[Array, Array]:
    """Scores and p-values of some images; their errors are at ``rows``."""
    scores = typicality.score(stored.errors[rows.tolist()], images)
    return scores.numpy(), typicality.p_value(scores).numpy()


def called_inverted(own: tuple[Array, Array], other: tuple[Array, Array], correlation: Array, low: float) -> Any:
    """What each rule says of each image: with its own and its negative's scores and p-values."""
    untypical = own[1] < UNTYPICAL
    return {
        "untypical": untypical,
        "untypical, negative scores lower": untypical & (other[0] < own[0]),
        "untypical, negative scores less than half": untypical & (other[0] < own[0] / 2),
        "untypical, negative typical": untypical & (other[1] >= UNTYPICAL),
        "correlation with the mean image below 0": correlation < 0,
        "correlation below that of 1 % of validation images": correlation < low,
        "untypical, correlation below 0": untypical & (correlation < 0),
    }


def report_bundle(bundle: Path, work: Path) -> dict[str, Any]:
    """Shares called inverted, each fold judged by a fit to the others."""
    stored = load_errors(bundle / "docs" / "evaluation" / "errors_validation_seed_0.npz")
    negative, foreign, foreign_negative = (
        load_errors(work / f"{bundle.name}_{name}.npz")
        for name in ("validation_negative", "foreign", "foreign_negative")
    )
    # A key names the pixels or the file; the stored errors may be in another order.
    order = rows_of_images(stored.keys, negative.keys, what=f"negatives of {bundle.name}")
    images = {name: torch.from_numpy(array) for name, array in np.load(work / f"{bundle.name}_images.npz").items()}
    images["validation"] = images["validation"][torch.from_numpy(order)]
    groups = patient_codes(stored.patients, len(stored.keys))
    found: dict[str, dict[str, list[Array]]] = {}
    lowest = 1.0
    for rest, fold in GroupKFold(5).split(groups, groups=groups):
        own = {name: images["validation"][torch.as_tensor(rows)] for name, rows in (("rest", rest), ("fold", fold))}
        patients = None if stored.patients is None else [stored.patients[i] for i in rest]
        fitted = fit_typicality(stored.errors[rest.tolist()], images=own["rest"], groups=patients)
        mean = fit_mean_image(images["validation"][torch.as_tensor(rest)])
        low = float(mean.correlation(images["validation"][torch.as_tensor(rest)]).quantile(0.01))
        one, two = judge(fitted, stored, fold, own["fold"]), judge(fitted, negative, order[fold], -own["fold"])
        every, other_kind = np.arange(len(foreign.keys)), images["foreign"]
        three, four = (
            judge(fitted, foreign, every, other_kind),
            judge(fitted, foreign_negative, every, -other_kind),
        )
        kinds = {
            "as they are": (one, two, mean.correlation(images["validation"][torch.as_tensor(fold)]).numpy()),
            "negatives": (two, one, mean.correlation(-images["validation"][torch.as_tensor(fold)]).numpy()),
            "another kind": (three, four, mean.correlation(images["foreign"]).numpy()),
        }
        lowest = min(lowest, float(kinds["as they are"][2].min()))
        for kind, (this, other, correlation) in kinds.items():
            for rule, called in called_inverted(this, other, correlation, low).items():
                found.setdefault(rule, {}).setdefault(kind, []).append(called)
    shares = {
        rule: {kind: float(np.concatenate(called).mean()) for kind, called in kinds.items()}
        for rule, kinds in found.items()
    }
    return {
        "num_validation": len(stored.keys),
        "num_another_kind": len(foreign.keys),
        "lowest correlation as they are": lowest,
        "called inverted": shares,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("compute", "report"))
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--dataset_dir", help="the bundle's data set")
    parser.add_argument("--label_type", help="of the data set, where the bundle's is another: index or name")
    parser.add_argument("--foreign", type=Path, help="images of another kind")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "inverted")
    args = parser.parse_args()
    if args.command == "compute":
        if args.bundle is None or args.dataset_dir is None or args.foreign is None:
            parser.error("compute: expected BUNDLE, --dataset_dir and --foreign")
        compute(args)
        return
    bundles = [
        path for path in sorted(BUNDLES.iterdir()) if (args.work / f"{path.name}_validation_negative.npz").exists()
    ]
    results = {path.name: report_bundle(path, args.work) for path in bundles}
    replace_text(RESULTS / "inverted.json", json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
