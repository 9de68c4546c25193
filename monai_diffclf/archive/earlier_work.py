# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Records of a run that was refused, for the next run in the same folder: those that it would make as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from .block_record import BlockRecord, block_path, write_block
from .plan import ArchivePlan, read_plan

__all__ = ["known_plan", "take_over"]


def known_plan(path: Path) -> ArchivePlan | None:
    """A plan that was saved; None where there is none, or it is damaged."""
    try:
        return read_plan(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def take_over(work: Path, plan: ArchivePlan, blocks: Path) -> ArchivePlan:
    """Take the records of another run's work that hold for a plan too: same images at the same places, made alike.

    Args:
        work: folder of the other work, which is left as it is.
        plan: the plan.
        blocks: folder for its records.

    Returns:
        the plan, begun when the other work was, where anything was taken from there.
    """
    other = known_plan(work / "plan.json")
    if other is None or not _alike(plan, other):
        return plan
    begun = replace(plan, settings=replace(plan.settings, begun=other.settings.begun))
    records = list(_records(work / "blocks", other))
    taken = [number for number, _ in records if plan.block(number) == other.block(number)]
    # Where a report shows not all, what is recorded for it hangs on the images of all records.
    if len(taken) < len(records) and sum(count for _, count in records) >= plan.settings.max_cases:
        return plan
    for number in taken:
        record = BlockRecord.read(block_path(work / "blocks", number), other.fingerprint, number)
        if record is not None:
            write_block(blocks, number, replace(record, plan=begun.fingerprint).pack())
    return begun if taken else plan


def _alike(plan: ArchivePlan, other: ArchivePlan) -> bool:
    """Whether equal images have equal records; being strict changes none."""
    own, its = (
        asdict(replace(each, images=(), settings=replace(each.settings, strict=False, begun="", device=None)))
        for each in (plan, other)
    )
    return bool(json.loads(json.dumps(own, default=str)) == json.loads(json.dumps(its, default=str)))  # one was JSON


def _records(blocks: Path, plan: ArchivePlan) -> Iterator[tuple[int, int]]:
    """Number of each record that is whole, and how many cases it has for the report."""
    names = set(os.listdir(blocks)) if blocks.is_dir() else set()
    for number in range(plan.num_blocks):
        path = block_path(blocks, number)
        record = BlockRecord.read(path, plan.fingerprint, number) if path.name in names else None
        if record is not None and len(record.rows) == len(plan.block(number)):
            yield number, len(record.cases)
