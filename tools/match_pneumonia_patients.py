"""Find the patient behind every PneumoniaMNIST image.

PneumoniaMNIST publishes no patient numbers, and its training and validation sets share patients. The files of its
source (Kermany et al., Cell 2018, CC BY 4.0) carry them in their names. This script pairs every 28 px image with the
source file it most resembles (one to one, within each split and class) and writes one row an image: the first 16 hex
digits of the SHA-256 of its pixels, and the patient. The table works for any copy of the data set, in any order.

    python -m tools.match_pneumonia_patients --npz pneumoniamnist.npz --kermany FOLDER --output patients.csv

FOLDER holds ``labels.csv`` with the columns file, label, split, and the X-rays themselves.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from monai_diffclf.data.kermany_cxr import patient_of
from monai_diffclf.data.pneumonia_mnist import image_key
from monai_diffclf.data.table_rows import read_rows

# The source was squashed to a square; PneumoniaMNIST cropped the centre square first. The original aspect ratio is
# lost, so several are tried and the best one counts.
ASPECT_RATIOS = np.arange(0.9, 2.05, 0.05)


def standardise(rows: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and norm 1, so that a product of two of them is their correlation."""
    rows = rows.reshape(len(rows), -1).astype(np.float32)
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def candidates(file: Path) -> np.ndarray:
    """The 28 px centre crops of one source file, one for each aspect ratio [A, 784]."""
    with Image.open(file) as image:
        grey = image.convert("L")
        width, height = grey.size
        crops = []
        for ratio in ASPECT_RATIOS:
            w, h = (width / ratio, height) if ratio >= 1 else (width, height * ratio)
            box = ((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)
            crops.append(np.asarray(grey.resize((28, 28), Image.Resampling.BICUBIC, box=box, reducing_gap=None)))
    return standardise(np.stack(crops))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, required=True)
    parser.add_argument("--kermany", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    with np.load(args.npz) as archive:
        arrays = {key: archive[key] for key in archive.files}
    source = list(read_rows(args.kermany / "labels.csv", ("file", "label", "split")))
    rows = []
    for split in ("train", "val", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1)
        for label in (0, 1):
            index = np.flatnonzero(labels == label)
            target = standardise(images[index])
            files = [row["file"] for row in source if row["split"] == split and row.integer("label") == label]
            score = np.stack([(candidates(args.kermany / name) @ target.T).max(0) for name in files])
            chosen, column = linear_sum_assignment(-score)
            worst = score[chosen, column].min()
            agree = np.mean(score[chosen].argmax(1) == column)
            print(f"{split} class {label}: {len(files)} files, lowest correlation {worst:.3f}, best kept {agree:.3f}")
            for i, j in zip(chosen, column, strict=True):
                rows.append((image_key(images[index[j]]), patient_of(files[i]), split, f"{score[i, j]:.3f}"))
    rows.sort(key=lambda row: (row[2], row[0]))
    with open(args.output, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("key", "patient", "split", "correlation"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
