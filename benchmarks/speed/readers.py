"""How long the readers of large data sets take from the distributed tables to a datalist.

    python -m benchmarks.speed.readers [--rows 200000] [--repeats 3]

Tables and folders as CheXpert (100 studies a patient, all 14 labels) and NIH ChestX-ray14 (two films a patient, twelve
folders of images) are distributed are made in a temporary folder with empty files for films, and read whole, with the
check that every file is there. Time is that of the processor in this process, which other programs disturb little; the
clock's is beside it. The files have just been made: names that a disk must look up first take longer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundles import RESULTS
from monai_diffclf.data import load_chexpert_findings, load_nih_chest_xray14
from monai_diffclf.data.chexpert_files import FINDINGS as CHEXPERT
from monai_diffclf.data.nih_chest_xray14 import FINDINGS as NIH

STUDIES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 200_000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, default=RESULTS / "readers.json")
    args = parser.parse_args()
    readers: dict[str, tuple[Callable[[Path, int], None], Callable[..., list[dict[str, Any]]]]] = {
        "chexpert_findings": (make_chexpert, load_chexpert_findings),
        "nih_chest_xray14": (make_nih, load_nih_chest_xray14),
    }
    report: dict[str, Any] = {"rows": args.rows, "load_average": os.getloadavg()[0]}
    for name, (make, load) in readers.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), args.rows)
            seconds, clock = zip(*(timed(load, Path(folder), args.rows) for _ in range(args.repeats)), strict=True)
        report[name] = {
            "seconds": statistics.median(seconds),
            "seconds_of_each": seconds,
            "clock_of_each": clock,
        }
        print(name, report[name], flush=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


def timed(load: Callable[..., list[dict[str, Any]]], folder: Path, rows: int) -> tuple[float, float]:
    start = time.process_time(), time.perf_counter()
    items = load(folder, "train")
    seconds = time.process_time() - start[0], time.perf_counter() - start[1]
    if not 0.85 * rows < len(items) <= rows:
        raise RuntimeError(f"expected {rows} items, or nine in ten of them, got {len(items)}")
    return seconds


def make_chexpert(root: Path, rows: int) -> None:
    """``train.csv`` with labels as frequent as anything, and its films."""
    texts = np.array(["", "1.0", "0.0", "-1.0"])[np.random.default_rng(0).integers(0, 4, (rows, len(CHEXPERT)))]
    with (root / "train.csv").open("w") as table:
        table.write(",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]) + "\n")
        for number, labels in enumerate(texts):
            path = f"train/patient{number // STUDIES:05d}/study{number % STUDIES}/view1_frontal.jpg"
            table.write(f"CheXpert-v1.0-small/{path},Female,61,Frontal,AP,{','.join(labels)}\n")
    for study in range(STUDIES):  # one patient's folder, which the others are links to
        (root / "train" / "patient00000" / f"study{study}").mkdir(parents=True)
        (root / "train" / "patient00000" / f"study{study}" / "view1_frontal.jpg").touch()
    for patient in range(1, -(-rows // STUDIES)):
        (root / "train" / f"patient{patient:05d}").symlink_to(root / "train" / "patient00000")


def make_nih(root: Path, rows: int) -> None:
    """``Data_Entry_2017.csv``, the lists and the films; patients of validation are in it, as all of a list are read."""
    said = np.random.default_rng(0).integers(0, len(NIH), (rows, 2))
    for folder in range(1, 13):
        (root / f"images_{folder:03}" / "images").mkdir(parents=True)
    names = [f"{number // 2:08d}_{number % 2:03d}.png" for number in range(rows)]
    with (root / "Data_Entry_2017.csv").open("w") as table:
        table.write("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,")
        table.write("OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n")
        for number, (name, (one, other)) in enumerate(zip(names, said, strict=True)):
            found = "|".join({NIH[one], NIH[other]})
            table.write(f"{name},{found},0,{number // 2},058Y,M,PA,2682,2749,0.143,0.143,\n")
            (root / f"images_{1 + number % 12:03}" / "images" / name).touch()
    (root / "train_val_list.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
