# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf export-labels``: the labels of a MONAI Label datastore as a datalist."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import click

from .._text import csv_text
from ..data.splits import split_by_hash
from ..monailabel.labelled_images import LabelledImages, read_labels
from ..storage.atomic_file import replace_text
from .results import command_options, finish

__all__ = ["command", "datalist", "table"]


@click.command("export-labels")
@click.argument("studies", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="FILE.json for MONAI's datalist, FILE.csv for the table that train --data takes.",
)
@click.option("--classes", metavar="NAMES", help="Classes in the order of their labels; default: those found, sorted.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Whose labels; repeat it; default: all readers'.")
@click.option("--patient-pattern", metavar="REGEX", help="Finds the patient in a file's name, as in new-bundle.")
@command_options
def command(
    studies: Path,
    output: Path,
    classes: str | None,
    tags: tuple[str, ...],
    patient_pattern: str | None,
    progress: bool,
    debug: bool,
) -> None:
    """Write the labels that readers gave the images in STUDIES as a datalist, for any bundle.

    STUDIES is the folder of a MONAI Label server. Images that readers set aside, on which they disagree or that have no
    label are left out and counted.
    """
    if output.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"output: expected a file .json or .csv, got {output.name}")
    wanted = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    found = read_labels(studies, classes=wanted, tags=tags or None, patient_pattern=patient_pattern, volumes=True)
    if not found.items:
        reasons = ", ".join(f"{number} {reason}" for reason, number in found.left_out.items()) or "no images"
        raise ValueError(f"studies: expected labelled images in {studies}, there are none ({reasons})")
    names = wanted or sorted(found.counts())
    made = table(found) if output.suffix.lower() == ".csv" else datalist(found, names, output.parent)
    replace_text(output, made)
    result: dict[str, Any] = {"path": str(output), "images": len(found.items), "classes": found.counts()}
    result |= {"patients_known": sum(bool(item.patient) for item in found.items), "left_out": found.left_out}
    finish(result, "\n".join([*_lines(result), str(output)]))


def datalist(found: LabelledImages, classes: list[str], folder: Path) -> str:
    """The labels in MONAI's form (`monai.data.load_decathlon_datalist`), with paths relative to a folder."""
    items = [
        {
            "image": os.path.relpath(item.path.resolve(), folder.resolve()),
            "label": classes.index(item.label),
            "class": item.label,
            "tags": list(item.tags),
            "key": item.id,
            **({"patient": item.patient} if item.patient else {}),
        }
        for item in found.items
    ]
    content = {"name": "labels of readers", "labels": {str(i): name for i, name in enumerate(classes)}}
    return json.dumps({**content, "numTraining": len(items), "training": items}, indent=1) + "\n"


def table(found: LabelledImages) -> str:
    """The labels as the table that our bundles read; splits are made by a hash of the patient, or else of the image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "split", "patient"])
    for item in found.items:
        row = [str(item.path.resolve()), item.label, split_by_hash(item.group), item.patient]
        writer.writerow([csv_text(cell) for cell in row])
    return text.getvalue()


def _lines(result: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{number} {name}" for name, number in result["classes"].items())
    lines = [f"{result['images']} labelled images: {counts}"]
    if result["left_out"]:
        lines.append("left out: " + ", ".join(f"{number} {reason}" for reason, number in result["left_out"].items()))
    if result["patients_known"] < result["images"]:
        unknown = result["images"] - result["patients_known"]
        lines.append(f"patient not known of {unknown}: images of one patient may come apart; see --patient-pattern")
    return lines
