"""Small data sets in the official layout of CheXpert, with synthetic films."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL import Image

from monai_diffclf.data.splits import split_by_hash

FINDINGS = [
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
]
HEADER = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS])


def row(
    patient: str,
    effusion: str = "",
    none: str = "",
    *,
    study: int = 1,
    view: str = "view1_frontal",
    folder: str = "CheXpert-v1.0-small/train",
) -> str:
    """One line of ``train.csv``: values are "", "1.0", "0.0" or "-1.0"."""
    values = {"Pleural Effusion": effusion, "No Finding": none, "Lung Opacity": "1.0" if effusion else ""}
    side = "Frontal,AP" if "frontal" in view else "Lateral,"
    labels = ",".join(values.get(name, "") for name in FINDINGS)
    return f"{folder}/{patient}/study{study}/{view}.jpg,Female,61,{side},{labels}"


def write_table(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def write_film(path: Path, *, effusion: bool, seed: int = 0) -> Path:
    """A grey picture, darker at the bottom without an effusion."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(110, 20, (40, 34))
    pixels[24:] += 90 if effusion else -60
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def patients(split: str | None, number: int) -> list[str]:
    """Patients of a split by hash; None for any."""
    names = (f"patient{n:05d}" for n in count(1))
    return list(islice((name for name in names if split is None or split_by_hash(name) == split), number))


def tree(root: Path, *, folder: str = "CheXpert-v1.0-small", each: int = 20, test: int = 6) -> Path:
    """Balanced and natural splits with both classes in each, and the radiologists' test set."""
    rows, made = [], patients("train", each) + patients("validation", 8)
    for n, patient in enumerate(made):
        rows.append(row(patient, *(("1.0", "") if n % 2 else ("", "1.0")), folder=f"{folder}/train"))
        write_film(root / "train" / patient / "study1" / "view1_frontal.jpg", effusion=bool(n % 2), seed=n)
    write_table(root / "train.csv", rows)
    official = [f"patient6474{n}" for n in range(test)]
    lines = [f"{folder}/test/{patient}/study1,0,1,{n % 2}" for n, patient in enumerate(official)]
    for n, patient in enumerate(official):
        write_film(root / "test" / patient / "study1" / "view1_frontal.jpg", effusion=bool(n % 2), seed=90 + n)
    write_table(root / "test_labels.csv", lines, "Study,No Finding,Lung Opacity,Pleural Effusion")
    return root
