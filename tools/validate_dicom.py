# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Count what two validators find in the DICOM objects made of ten synthetic images of six kinds.

    python -m tools.validate_dicom

Makes the images of `tools.dicom_sources`, which have to be valid themselves, and of each a report, a parametric map, a
picture and a note of key objects; runs ``dciodvfy`` (dicom3tools) over all files and ``dsrdump`` (DCMTK) over the
documents; and writes the number of errors and the warnings of each file to
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
from highdicom.version import __version__ as highdicom_version
from pydicom import __version__ as pydicom_version

from monai_diffclf import __version__
from monai_diffclf.dicom_out import (
    Algorithm,
    finding_of,
    key_objects,
    parametric_map,
    read_source,
    secondary_capture,
    structured_report,
    to_bytes,
)
from monai_diffclf.storage.atomic_file import replace_text
from tools.dicom_sources import SOURCES, write_sources

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
_LABELS = ("Error", "E:"), ("Warning", "W:")


def missing_validators() -> list[str]:
    """The programs that are not installed."""
    return [name for name in ("dciodvfy", "dsrdump") if shutil.which(name) is None]


def make_objects(folder: Path, name: str) -> dict[str, Path]:
    """Write all objects of one of `SOURCES`, and its files; kind -> file."""
    paths = write_sources(folder, name)
    source, finding = read_source(paths), finding_of(ROW, CLASSES)
    slices = (source.num_frames,) if source.num_frames > 1 else ()
    random = np.random.default_rng(len(name))
    values = random.normal(size=(*source.shape, *slices)) * 0.01
    shown = random.random((*source.shape, *slices, 1))
    made = {
        "report": structured_report(source, finding, ALGORITHM, when=WHEN),
        "map": parametric_map(source, finding, ALGORITHM, values, when=WHEN),
        "overlay": secondary_capture(source, finding, ALGORITHM, shown, values, when=WHEN),
        "key_objects": key_objects([source], ["lesion"], ALGORITHM, when=WHEN),
    }
    files = {f"source_{number}": path for number, path in enumerate(paths)}
    for kind, dataset in made.items():
        files[kind] = folder / f"{name}_{kind}.dcm"
        files[kind].write_bytes(to_bytes(dataset))
    return files


def found_by(program: str, path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of a validator; that it fails without a word is an error too."""
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace")
    lines = (done.stderr + done.stdout).splitlines()
    errors, warnings = ([line for line in lines if line.startswith(labels)] for labels in _LABELS)
    if done.returncode and not errors:
        errors = [f"Error - exit code {done.returncode}"]
    return errors, warnings


def validate(path: Path, kind: str) -> dict[str, Any]:
    """Errors, and kinds of warnings with their number, of both validators."""
    programs = ["dciodvfy", *(["dsrdump"] if kind in ("report", "key_objects") else [])]
    found = {}
    for program in programs:
        errors, warnings = found_by(program, path)
        counted = Counter(re.sub(r"\s+", " ", line).strip() for line in warnings)
        found[program] = {"errors": errors, "warnings": dict(counted)}
    return found


def main() -> int:
    if absent := missing_validators():
        print(f"error: expected the programs {', '.join(absent)}; install dicom3tools and dcmtk", file=sys.stderr)
        return 2
    images: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SOURCES:
            files = make_objects(Path(folder) / name, name)
            images[name] = {kind: validate(path, kind) for kind, path in files.items()}
    errors = Counter(dict.fromkeys(("source", "report", "map", "overlay", "key_objects"), 0))
    for found in images.values():
        for kind, programs in found.items():
            errors[re.sub(r"_\d+$", "", kind)] += sum(len(each["errors"]) for each in programs.values())
    result = {
        "what": __doc__.splitlines()[0],
        "images": len(images),
        "files": sum(len(found) for found in images.values()),
        "errors": dict(errors),
        "total_errors": sum(errors.values()),
        "versions": {"monai_diffclf": __version__, "highdicom": highdicom_version, "pydicom": pydicom_version},
        "validators": {"dciodvfy": _version("dciodvfy"), "dsrdump": _version("dsrdump")},
        "found": images,
    }
    replace_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(f"{result['files']} files of {len(images)} images: {dict(errors)} errors; {RESULT}")
    return 1 if sum(errors.values()) else 0


def _version(program: str) -> str:
    option = {"dciodvfy": "-version"}.get(program, "--version")
    done = subprocess.run([program, option], capture_output=True, text=True)
    lines = [line.strip(" $") for line in (done.stdout + done.stderr).splitlines() if re.search(r"\d+\.\d+", line)]
    return lines[0] if lines else "unknown"


if __name__ == "__main__":
    sys.exit(main())
