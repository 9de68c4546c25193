"""Small data sets in the official layouts of ISIC 2018, 2019 and 2020."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from monai_diffclf.data.isic_tables import CLASSES

HEADER_2020 = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"


def write_image(path: Path, *, dark: bool, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(190, 15, (30, 40, 3))
    pixels[8:22, 12:28] -= 120 if dark else 40
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def table_2018(root: Path, part: str, rows: Sequence[tuple[str, str]], *, images: bool = True) -> Path:
    """``(id, class)``; in a folder of its own, as the challenge packs it."""
    name, classes = f"ISIC2018_Task3_{part}", CLASSES[2018]
    lines = [",".join(["image", *classes])]
    lines += [",".join([key, *("1.0" if each == label else "0.0" for each in classes)]) for key, label in rows]
    folder = root / f"{name}_GroundTruth"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_GroundTruth.csv").write_text("\n".join(lines) + "\n")
    for n, (key, label) in enumerate(rows if images else ()):
        write_image(root / f"{name}_Input" / f"{key}.jpg", dark=label == "MEL", seed=n)
    return root


def table_2019(
    root: Path, rows: Sequence[tuple[str, str, str]], part: str = "Training", *, images: bool = True
) -> Path:
    """``(id, class, lesion)``; the images lie in a folder within one of the same name."""
    name, classes = f"ISIC_2019_{part}", [*CLASSES[2019], "UNK"]
    lines = [",".join(["image", *classes])]
    lines += [",".join([key, *("1.0" if each == label else "0.0" for each in classes)]) for key, label, _ in rows]
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}_GroundTruth.csv").write_text("\n".join(lines) + "\n")
    people = ["image,age_approx,anatom_site_general,lesion_id,sex"]
    people += [f"{key},55.0,anterior torso,{lesion},female" for key, _, lesion in rows]
    (root / f"{name}_Metadata.csv").write_text("\n".join(people) + "\n")
    for n, (key, label, _) in enumerate(rows if images else ()):
        write_image(root / f"{name}_Input" / f"{name}_Input" / f"{key}.jpg", dark=label == "MEL", seed=n)
    return root


def table_2020(root: Path, rows: Sequence[tuple[str, int, str]], *, images: bool = True) -> Path:
    """``(id, target, patient)``."""
    names = ("benign", "malignant")
    lines = [f"{key},{patient},male,45.0,torso,unknown,{names[ill]},{ill}" for key, ill, patient in rows]
    root.mkdir(parents=True, exist_ok=True)
    (root / "ISIC_2020_Training_GroundTruth.csv").write_text("\n".join([HEADER_2020, *lines]) + "\n")
    for n, (key, ill, _) in enumerate(rows if images else ()):
        write_image(root / "ISIC_2020_Training_JPEG" / "train" / f"{key}.jpg", dark=bool(ill), seed=n)
    return root


def melanoma_tree(root: Path, *, ill: int = 24, benign: int = 60, images: bool = True) -> Path:
    """Both years, most melanomas below 100000 and in 2019, nearly all benign images of 2020 above."""
    rows = [
        (f"ISIC_{n:07d}", "MEL" if n % 2 else "NV", f"{'HAM' if n % 4 < 2 else 'BCN'}_{n:07d}") for n in range(2 * ill)
    ]
    table_2019(root, rows, images=images)
    later = [(f"ISIC_{200_000 + n:07d}", int(n % 10 == 0), f"IP_{n:07d}") for n in range(benign)]
    return table_2020(root, later, images=images)
