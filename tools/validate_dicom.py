# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Count what three validators find in the DICOM objects made of synthetic images, volumes and findings.

    python -m tools.validate_dicom

Makes the images of `tools.dicom_sources`, which have to be valid themselves, and of each a report, a parametric map, a
picture and a note of key objects; of some also the objects of two findings. Runs ``dciodvfy`` (dicom3tools) over all
files, ``dsrdump`` (DCMTK) over the documents, and ``dcentvfy`` (dicom3tools) over all files of an image together, which
have to agree on patient, study, series and frame of reference. As ``dcentvfy`` compares bytes, whatever the character
set, it sees the images as copies in UTF-8. The number of errors and the warnings of each file are written to
``benchmarks/results/dicom_validation.json``. Results of the images are made up: what is judged is their form.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom.version import __version__ as highdicom_version
from pydicom import __version__ as pydicom_version
from tqdm import tqdm

from monai_diffclf import __version__
from monai_diffclf.dicom_out import (
    Algorithm,
    dicom_files,
    key_objects,
    read_source,
    read_volume_source,
    to_bytes,
)
from monai_diffclf.storage.atomic_file import replace_text
from tools.dicom_sources import SOURCES, VOLUMES, write_sources

RESULT = Path("benchmarks/results/dicom_validation.json")
WHEN = datetime(2026, 1, 2, 3, 4, 5)
ALGORITHM = Algorithm("phantom_xray_diffusion", __version__, "0123456789abcdef", ("num_draws=25", "rule=vote"))
ROW = {
    "predicted": "lesion",
    "probability_clear": 0.16,
    "probability_lesion": 0.84,
    "vote_share_clear": 0.16,
    "vote_share_lesion": 0.84,
    "vote_share_low": 0.653,
    "vote_share_high": 0.936,
    "vote_entropy": 0.4397,
    "probability_entropy": 0.4397,
    "ood_score": 1.25,
    "ood_p_value": 0.3,
    "prediction_set": ["clear", "lesion"],
    "warnings": "the image has no window",
}
CLASSES = ["clear", "lesion"]
FINDINGS = ["nodule", "effusion"]
WITH_FINDINGS = ("cr", "cr_monochrome1", "dx", "dx_monochrome1")
_LABELS = ("Error", "E:"), ("Warning", "W:")


def missing_validators() -> list[str]:
    """The programs that are not installed."""
    return [name for name in ("dciodvfy", "dcentvfy", "dsrdump") if shutil.which(name) is None]


def finding_row(probability: float, chosen: list[str]) -> dict[str, Any]:
    """The row of one of several findings, by the probability that it is present and its prediction set."""
    low, high = ROW["vote_share_low"], ROW["vote_share_high"]
    shares = {"absent": round(1 - probability, 6), "present": probability}
    row: dict[str, Any] = {"predicted": max(shares, key=lambda name: shares[name]), "prediction_set": chosen}
    row |= {f"probability_{name}": share for name, share in shares.items()}
    row |= {f"vote_share_{name}": share for name, share in shares.items()}
    return row | {"vote_share_low": low, "vote_share_high": high, "vote_entropy": 0.4397, "probability_entropy": 0.4397}


def make_objects(folder: Path, name: str, *, findings: bool = False) -> dict[str, Path]:
    """Write all objects of one of `SOURCES`, and its files; kind -> file.

    Args:
        folder: where to; the image's files go into the folder ``images`` in it.
        name: the image.
        findings: whether it has two findings in place of a class.
    """
    paths = write_sources(folder / "images", name)
    volume = name in VOLUMES
    image = folder / "images" if len(paths) > 1 else paths[0]
    source = read_volume_source(image).source if volume else read_source(image)
    size = (*source.shape[::-1], source.num_frames) if volume else source.shape
    values = np.random.default_rng(len(name)).normal(size=(*([2] if findings else []), *size)) * 0.01
    row: Any = [finding_row(0.84, ["present"]), finding_row(0.16, ["absent", "present"])] if findings else ROW
    positive = FINDINGS[:1] if findings else CLASSES[1:]
    made = dicom_files(image, row, FINDINGS if findings else CLASSES, ALGORITHM, values, when=WHEN, volume=volume)
    noted = source.slice_at(1) if volume else source
    made["key_objects"] = to_bytes(key_objects([noted], positive, ALGORITHM, when=WHEN))
    files = {f"source_{number}": path for number, path in enumerate(paths)}
    for kind, content in made.items():
        files[kind] = folder / f"{name}_{kind}.dcm"
        files[kind].write_bytes(content)
    return files


def found_by(program: str, *paths: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of a validator; that it fails without a word is an error too."""
    done = subprocess.run([program, *map(str, paths)], capture_output=True, text=True, errors="replace")
    lines = (done.stderr + done.stdout).splitlines()
    errors, warnings = ([line for line in lines if line.startswith(labels)] for labels in _LABELS)
    if done.returncode and not errors:
        errors = [f"Error - exit code {done.returncode}"]
    return errors, warnings


def validate(path: Path, kind: str) -> dict[str, Any]:
    """Errors, and kinds of warnings with their number, of the validators of one file."""
    programs = ["dciodvfy", *(["dsrdump"] if kind in ("report", "key_objects") else [])]
    return {program: _counted(*found_by(program, path)) for program in programs}


def validate_together(files: dict[str, Path]) -> dict[str, Any]:
    """The same of all files of an image, which have to agree on what they are about."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for kind, path in files.items():
            dataset = pydicom.dcmread(path)
            dataset.decode()
            dataset.SpecificCharacterSet = "ISO_IR 192"
            paths.append(Path(folder, f"{kind}.dcm"))
            dataset.save_as(paths[-1])
        return {"dcentvfy": _counted(*found_by("dcentvfy", *paths))}


def _counted(errors: list[str], warnings: list[str]) -> dict[str, Any]:
    plain = [re.sub(r"\s+", " ", re.sub(r"<[^<>]*/([^<>/]+)>", r"<\1>", line)).strip() for line in warnings]
    return {"errors": errors, "warnings": dict(Counter(plain))}


def main() -> int:
    if absent := missing_validators():
        print(f"error: expected the programs {', '.join(absent)}; install dicom3tools and dcmtk", file=sys.stderr)
        return 2
    images: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(name, name, False) for name in SOURCES]
        jobs += [(f"{name}, two findings", name, True) for name in WITH_FINDINGS]
        for title, name, findings in tqdm(jobs, unit=" images"):
            files = make_objects(Path(folder) / title, name, findings=findings)
            images[title] = {kind: validate(path, kind) for kind, path in files.items()}
            images[title]["together"] = validate_together(files)
    errors = Counter(dict.fromkeys(("source", "report", "map", "overlay", "key_objects", "together"), 0))
    for found in images.values():
        for kind, programs in found.items():
            errors[re.sub(r"finding_\d+_|_\d+$", "", kind)] += sum(len(each["errors"]) for each in programs.values())
    result = {
        "what": __doc__.splitlines()[0],
        "images": len(SOURCES),
        "volumes": len(VOLUMES),
        "with_findings": len(WITH_FINDINGS),
        "files": sum(len(found) - 1 for found in images.values()),
        "errors": dict(errors),
        "total_errors": sum(errors.values()),
        "versions": {"monai_diffclf": __version__, "highdicom": highdicom_version, "pydicom": pydicom_version},
        "validators": {name: _version(name) for name in ("dciodvfy", "dcentvfy", "dsrdump")},
        "found": images,
    }
    replace_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(f"{result['files']} files of {len(images)} images: {dict(errors)} errors; {RESULT}")
    return 1 if sum(errors.values()) else 0


def _version(program: str) -> str:
    option = "--version" if program == "dsrdump" else "-version"
    done = subprocess.run([program, option], capture_output=True, text=True)
    lines = [line.strip(" $") for line in (done.stdout + done.stderr).splitlines() if re.search(r"\d+\.\d+", line)]
    return lines[0] if lines else "unknown"


if __name__ == "__main__":
    sys.exit(main())
