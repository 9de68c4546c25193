"""Small data sets of several findings as CheXpert and NIH ChestX-ray14 are distributed, with synthetic films."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from monai_diffclf.data.nih_chest_xray14 import FINDINGS as NIH
from monai_diffclf.data.splits import split_by_hash
from tests.data.chexpert_trees import FINDINGS, patients, write_film, write_table

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
"""As distributed: the last two names hold a comma each, and a comma ends the line."""


def chexpert_row(path: str, values: Mapping[str, str]) -> str:
    """One line of ``train.csv`` or ``valid.csv``."""
    side = "Frontal,AP" if "frontal" in path else "Lateral,"
    return f"{path},Male,54,{side},{','.join(values.get(name, '') for name in FINDINGS)}"


def chexpert(root: Path, *, each: int = 32, name: str = "CheXpert-v1.0-small") -> Path:
    """Every finding is there in training, held-out patients and test; in ``valid.csv`` there is no fracture.

    Film n of a split shows findings n and n + 1 (modulo 14); each third training film has one uncertain label, and what
    it does not name is blank. Each fifth study of training has a lateral film as well.
    """
    rows = []
    for n, patient in enumerate(patients("train", each) + patients("validation", each // 2)):
        values = {FINDINGS[n % 14]: "1.0", FINDINGS[(n + 1) % 14]: "1.0", FINDINGS[(n + 2) % 14]: "0.0"}
        if n % 3 == 0:
            values[FINDINGS[(n + 3) % 14]] = "-1.0"
        for view in ("view1_frontal", "view2_lateral")[: 1 + (n % 5 == 0)]:
            rows.append(chexpert_row(f"{name}/train/{patient}/study1/{view}.jpg", values))
            write_film(root / "train" / patient / "study1" / f"{view}.jpg", effusion=bool(n % 2), seed=n)
    write_table(root / "train.csv", rows)
    rows = []
    for n in range(14):
        values = dict.fromkeys(FINDINGS, "0.0") | {FINDINGS[n % 14]: "1.0"} | {"Fracture": "0.0"}
        path = f"valid/patient6454{n}/study1/view1_frontal.jpg"
        rows.append(chexpert_row(f"{name}/{path}", values))
        write_film(root / path, effusion=bool(n % 2), seed=60 + n)
    write_table(root / "valid.csv", rows)
    rows = []
    for n in range(14):
        values = dict.fromkeys(FINDINGS, "0") | {FINDINGS[n]: "1"}
        rows.append(f"{name}/test/patient6474{n}/study1," + ",".join(values[finding] for finding in FINDINGS))
        write_film(root / f"test/patient6474{n}/study1/view1_frontal.jpg", effusion=bool(n % 2), seed=90 + n)
    write_table(root / "test_labels.csv", rows, ",".join(["Study", *FINDINGS]))
    return root


def nih_row(image: str, said: str, patient: str) -> str:
    """One line of ``Data_Entry_2017.csv``."""
    return f"{image},{said},0,{patient},058Y,M,PA,2682,2749,0.143,0.143,"


def nih(root: Path, *, each: int = 30, folders: str = "images_{:03}/images", absent: str = "") -> Path:
    """Every finding in training, validation and test, two films a patient; one is absent from validation, if named."""
    groups = {
        "train": _numbers("train")[:each],
        "validation": _numbers("validation")[: each // 2],
        "test": [str(30_000 + n) for n in range(each // 2)],
    }
    rows: list[str] = []
    listed: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for split, names in groups.items():
        for n, patient in enumerate(names):
            for film in range(2):
                image = f"{int(patient):08d}_{film:03d}.png"
                found = [NIH[n % 14]] if film == 0 else [NIH[n % 14], NIH[(n + 1) % 14]]
                if split == "validation":
                    found = [name for name in found if name != absent]
                rows.append(nih_row(image, "|".join(found) or "No Finding", patient))
                listed["test_list.txt" if split == "test" else "train_val_list.txt"].append(image)
                write_film(root / folders.format(1 + len(rows) % 12) / image, effusion=bool(n % 2), seed=len(rows))
    write_table(root / "Data_Entry_2017.csv", rows, NIH_HEADER)
    for name, images in listed.items():
        (root / name).write_text("\n".join(images) + "\n")
    return root


def _numbers(split: str) -> list[str]:
    """Patients of NIH, by the hash of "patient" and their number, as the reader splits them."""
    wanted = ("validation",) if split == "validation" else ("train", "test")
    return [str(number) for number in range(1, 400) if split_by_hash(f"patient{number}") in wanted]
