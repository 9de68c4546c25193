# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the records of all blocks to the results: table, JSON, maps and report, the same whoever made the records."""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..bundle import Bundle
from ..handlers import CaseReport, ShiftWarning
from ..handlers.prediction_table import PredictionTable
from ..zoo import ClassConditions
from .block_classifier import bundle_handler, case_report
from .block_record import BlockRecord, RankedCase, block_path
from .dicom_folder import DicomFolder
from .plan import ArchivePlan
from .workspace import END, MAPS, REPORT, RESULTS, TABLE, Workspace

__all__ = ["Merged", "damaged_blocks", "merge"]

_SERIES = ("series", "slice")
_NAMED = 20  # images that could not be read, in the report


@dataclass
class Merged:
    """What all images came to.

    Args:
        counts: number of images of each class.
        failed: name of each image that could not be read, and why.
        num_maps: maps written.
        num_cases: images shown in the report.
    """

    counts: dict[str, int] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    num_maps: int = 0
    num_cases: int = 0

    @property
    def num_classified(self) -> int:
        """Number of images that have a class."""
        return sum(self.counts.values())


def damaged_blocks(workspace: Workspace) -> list[int]:
    """Remove records that cannot be read, and say which blocks are to be done again."""
    plan, damaged = workspace.plan, []
    for number in range(plan.num_blocks):
        path = block_path(workspace.blocks, number)
        record = BlockRecord.read(path, plan.fingerprint, number)
        if record is None or len(record.rows) != len(plan.block(number)):
            path.unlink(missing_ok=True)
            damaged.append(number)
    return damaged


def merge(workspace: Workspace, bundle: Bundle, dicom: DicomFolder | None = None) -> Merged:
    """Write all results into the workspace's folder of results, from records that are complete.

    Args:
        workspace: the workspace.
        bundle: the opened bundle.
        dicom: the folder of DICOM results, where there are to be some.

    Warns:
        UserWarning: when the images differ from those the model was validated on, where the bundle tests that.
    """
    plan, folder = workspace.plan, workspace.staged
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    more = _SERIES if plan.has_series else ()
    table, merged = PredictionTable(folder / TABLE, bundle.classes, more=more), Merged()
    report = case_report(bundle)
    shift = bundle_handler(bundle, ShiftWarning)
    if dicom is not None:
        dicom.begin()
    rows_path, shown = folder / "rows", list[tuple[float, int, RankedCase]]()
    with rows_path.open("w", encoding="utf-8", errors="replace") as rows:
        for record in _records(workspace):
            for row in record.rows:
                _count(merged, row)
                table.add(row)
                rows.write((",\n" if rows.tell() else "") + json.dumps(_filled(row, more), ensure_ascii=False))
            _write_maps(workspace, record, merged)
            if dicom is not None:
                dicom.add(record)
            for case in record.cases:
                _keep(shown, case, plan.settings.max_cases)
            for errors in record.errors if record.errors is not None and shift is not None else ():
                shift.add(errors)
    table.finish()
    _write_report(workspace, bundle, report, [case for _, _, case in shown], merged)
    _write_results(workspace, bundle, merged)
    rows_path.unlink()
    if shift is not None:
        shift.test()
    return merged


def _records(workspace: Workspace) -> Iterator[BlockRecord]:
    for number in range(workspace.plan.num_blocks):
        record = BlockRecord.read(block_path(workspace.blocks, number), workspace.plan.fingerprint, number)
        if record is None:
            raise RuntimeError(f"the record of block {number} was damaged while it was in use; run the command again")
        yield record


def _count(merged: Merged, row: dict[str, Any]) -> None:
    if row["error"]:
        merged.failed.append((row["key"], row["error"]))
    else:
        merged.counts[row["predicted"]] = merged.counts.get(row["predicted"], 0) + 1


def _filled(row: dict[str, Any], more: tuple[str, ...]) -> dict[str, Any]:
    """A row of the JSON file: nothing as null."""
    filled = {**row, **{name: row.get(name) for name in more}}
    return {name: None if value == "" or value != value else value for name, value in filled.items()}


def _write_maps(workspace: Workspace, record: BlockRecord, merged: Merged) -> None:
    for name, content in record.maps.items():
        (workspace.staged / MAPS).mkdir(exist_ok=True)
        (workspace.staged / MAPS / name).write_bytes(content)
    merged.num_maps += len(record.maps)


def _keep(shown: list[tuple[float, int, RankedCase]], case: RankedCase, most: int) -> None:
    """Keep a case unless as many others as are shown are less sure; of equally sure ones the first stay."""
    entry = (case.unsureness, -case.place, case)
    if len(shown) < most:
        heapq.heappush(shown, entry)
    else:
        heapq.heappushpop(shown, entry)


def _write_report(
    workspace: Workspace, bundle: Bundle, report: CaseReport, cases: list[RankedCase], merged: Merged
) -> None:
    if not workspace.plan.settings.report or not cases:
        return
    cases.sort(key=lambda case: case.place)
    report.path = workspace.staged / REPORT
    report.description = f"{_images(len(workspace.plan.images))}, classified by {bundle.name}."
    report.notes["Weights"] = str(workspace.plan.made_by["weights"])
    failed = merged.failed[:_NAMED]
    if len(merged.failed) > _NAMED:
        failed = [*failed, ("more", f"and {len(merged.failed) - _NAMED} more, see the table")]
    total = merged.num_classified * max(1, len(report.findings))
    report.write([case.record for case in cases], total, failed)
    merged.num_cases = len(cases)


def _write_results(workspace: Workspace, bundle: Bundle, merged: Merged) -> None:
    plan = workspace.plan
    names = {TABLE: True, REPORT: merged.num_cases > 0, MAPS: merged.num_maps > 0}
    head = {
        "run": plan.fingerprint,
        "parts": plan.parts(),
        "files": [name for name, written in names.items() if written],
        "bytes": {name: (workspace.staged / name).stat().st_size for name in (TABLE, REPORT) if names[name]},
        **_about(plan, bundle),
        "images": len(plan.images),
        "classified": merged.num_classified,
        "not_read": len(merged.failed),
        "classes": bundle.classes,
    }
    with (workspace.staged / RESULTS).open("w", encoding="utf-8", errors="replace") as file:
        # The first line is read by itself, to know whose results these are.
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"predictions": [\n')
        with (workspace.staged / "rows").open(encoding="utf-8") as rows:
            shutil.copyfileobj(rows, file)
        file.write(END)


def _about(plan: ArchivePlan, bundle: Bundle) -> dict[str, Any]:
    settings = plan.settings
    values = dict(plan.made_by["values"])
    return {
        "bundle": bundle.name,
        "weights": plan.made_by["weights"],
        "settings": {"maps": settings.maps, "report": settings.report, "strict": settings.strict, **values},
        **_conditions(bundle),
        "device": plan.made_by["device"],
        "versions": plan.made_by["versions"],
    }


def _conditions(bundle: Bundle) -> dict[str, Any]:
    """What the classes are to a generative bundle."""
    found = bundle.parser.get("conditioning", None)
    return {"conditions": found.described()} if isinstance(found, ClassConditions) else {}


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
