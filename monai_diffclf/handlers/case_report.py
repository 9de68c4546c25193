# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handler that writes a report with a page for every image of an evaluation."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events

from .._class_names import class_names, finding_names
from ..classification import DenoisingErrors
from ..classification.vote_statistics import of_final_probabilities
from ..explain import upright_volume
from ..inferers import DiffusionClassifierInferer
from ..keys import OutputKeys
from ..networks.findings import UNKNOWN
from ..report.case import Case, choose_measure, unsureness
from ..report.case_record import CaseRecord, encode_case
from ..report.case_volume import CaseVolume
from ..report.cases import write_case_records
from ..storage.outputs import Outputs
from .dataset_collector import is_repeated
from .explained_item import (
    ExplainedItem,
    FindNearest,
    MakeCounterfactuals,
    add_counterfactuals,
    add_nearest,
    check_makes,
    make_item,
    warnings_of,
)
from .finding_view import is_multi_label, num_findings, of_finding
from .processes import gather

__all__ = ["CaseReport"]


class _Kept(NamedTuple):
    """An image that may be shown; the least unsure of all kept is the first to go."""

    unsureness: float
    earliness: int  # minus its place in the data set: no two images share it, so that cases are never compared
    case: Case
    item: ExplainedItem


class CaseReport:
    """Write an HTML report with a page a case when an evaluation is complete.

    For a `DiffusionClassifierEvaluator` whose batch and output are decollated (MONAI's default). Of the batch it takes
    ``key`` (the image's name) and ``label`` (class number) where known; of the output the evaluator's own keys, and
    what post-transforms add: ``pred_uncalibrated``, ``prediction_set``, ``ood_score``, ``ood_p_value``. Volumes are
    shown in three planes with a slider each, which open where the error map is strongest. With several processes the
    images of all are gathered, each once. See :func:`monai_diffclf.report.write_case_report`.

    Args:
        path: the HTML file.
        classes: names of the classes.
        counterfactuals: paints the images shown as the class that came second, such as
            `explain.CounterfactualGenerator`: called as ``counterfactuals(images, network, source=, target=,
            inferer=)``. None for a report without.
        nearest: finds training images near those shown, such as `representations.Retrieval`: called as
            ``nearest(images, network, target=)``, with ``nearest.picture(neighbour)``. None for a report without.
        max_cases: how many images to show: the least sure ones, where there are more.
        title: heading of the report.
        description: what was done, in a sentence or two.
        notes: further facts for the reader, name to value.
        findings: names of the findings where images have several: each is a case of its own, called after image and
            finding, and ``classes`` are what absent and present are called. Empty for one class an image.
        order_by: the uncertainty that says which images are the least sure: one of the evaluator's, or
            ``"probability"``; None for ``"vote_entropy"``, or ``"probability_entropy"`` where there are no votes.

    Raises:
        TypeError: when ``counterfactuals`` or ``nearest`` cannot be called.
        ValueError: when ``max_cases`` is not positive; during the evaluation, when classes, outputs or ``order_by``
            do not fit.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        classes: Sequence[str],
        *,
        counterfactuals: MakeCounterfactuals | None = None,
        nearest: FindNearest | None = None,
        max_cases: int = 500,
        title: str = "Case by case",
        description: str = "",
        notes: Mapping[str, str] | None = None,
        order_by: str | None = None,
        findings: Sequence[str] = (),
    ) -> None:
        if max_cases < 1:
            raise ValueError(f"max_cases: expected a positive number, got {max_cases}")
        check_makes(counterfactuals, "counterfactuals")
        check_makes(nearest, "nearest")
        self.path, self.classes, self.counterfactuals = Path(path), class_names(classes), counterfactuals
        self.nearest, self.findings = nearest, finding_names(findings) if findings else []
        if self.findings and len(self.classes) != 2:
            raise ValueError(f"classes: expected what absent and present are called, got {len(self.classes)} names")
        self.max_cases, self.title, self.description = max_cases, title, description
        self.notes, self.order_by = dict(notes or {}), order_by
        self._kept: list[_Kept] = []
        self._seen = self._count = 0  # with and without the repeated ones

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._kept, self._seen, self._count = [], 0, 0
        if idist.get_rank() == 0:
            # One of an earlier run, of other images, must not stand beside what this one writes.
            outputs = Outputs(self.path.parent, f"cases {self.path.name}")
            outputs.begin()
            outputs.add([self.path.name])

    def _collect(self, engine: Engine) -> None:
        sampler = getattr(engine.state.dataloader, "sampler", None)
        for source, result in zip(cast(Any, engine.state.batch), cast(Any, engine.state.output), strict=True):
            if not is_repeated(self._seen, sampler):
                self._keep(engine, source, result)
                self._count += max(1, len(self.findings))
            self._seen += 1

    def make_cases(
        self, engine: Engine, source: Mapping[str, Any], result: dict[str, Any], place: int
    ) -> list[tuple[float, int, Case, ExplainedItem]]:
        """The cases of an image, one or one a finding; each with a place of its own, see :meth:`make_case`."""
        if is_multi_label(result) != bool(self.findings):
            raise ValueError(
                "findings: expected the names of the findings where images have several, and none where each has one "
                f"class, got {self.findings}"
            )
        if not self.findings:
            unsure, case, item = self.make_case(engine, source, result, place)
            return [(unsure, place, case, item)]
        if len(self.findings) != num_findings(result):
            raise ValueError(f"findings: expected {num_findings(result)} names, got {len(self.findings)}")
        cases, key = [], source.get("key", f"image {place}")
        for number, name in enumerate(self.findings):
            own = {k: v for k, v in source.items() if k != "label"} | {"key": f"{key}: {name}"}
            if "label" in source and int(source["label"][number]) != UNKNOWN:
                own["label"] = int(source["label"][number])
            own_place = place * len(self.findings) + number
            unsure, case, item = self.make_case(engine, own, of_finding(result, number), own_place)
            cases.append((unsure, own_place, replace(case, finding=name, of_image=str(key)), item))
        return cases

    def make_case(
        self, engine: Engine, source: Mapping[str, Any], result: dict[str, Any], place: int
    ) -> tuple[float, Case, ExplainedItem]:
        """How unsure an image is by the report's measure, and what is shown of it.

        Args:
            engine: the evaluator.
            source: item of the decollated batch.
            result: item of the decollated output.
            place: its place in the data set, by which it is called if it has no name.
        """
        item = make_item(result)
        case = _case(engine, str(source.get("key", f"image {place}")), source, result, item)
        if case.num_classes != len(self.classes):
            raise ValueError(
                f"classes: expected {case.num_classes} names, one for each probability of pred, got {len(self.classes)}"
            )
        measure = choose_measure(self.order_by, case.uncertainty)
        if case.uncertainty and measure not in (*case.uncertainty, "probability"):
            raise ValueError(f"order_by: expected one of {sorted(case.uncertainty)} or 'probability', got {measure!r}")
        return unsureness(case, measure), case, item

    def explain(self, items: Sequence[ExplainedItem], engine: Engine) -> list[ExplainedItem]:
        """The items with what the report was asked to show beside: counterfactuals, nearest training images."""
        shown = list(items)
        if self.counterfactuals is not None:
            shown = add_counterfactuals(shown, engine, self.counterfactuals)
        return shown if self.nearest is None else add_nearest(shown, engine, self.nearest)

    def _keep(self, engine: Engine, source: Mapping[str, Any], result: dict[str, Any]) -> None:
        """Keep the image, unless `max_cases` others are less sure."""
        place = self._seen * idist.get_world_size() + idist.get_rank()
        for unsure, own_place, case, item in self.make_cases(engine, source, result, place):
            # Of equally sure images the first ones stay.
            kept = _Kept(unsure, -own_place, case, item)
            if len(self._kept) < self.max_cases:
                heapq.heappush(self._kept, kept)
            else:
                heapq.heappushpop(self._kept, kept)

    def _finish(self, engine: Engine) -> None:
        kept, self._kept = self._kept, []
        chosen, total = _least_sure([entry[:2] for entry in kept], self._count, self.max_cases)
        kept = sorted((entry for entry in kept if entry[:2] in chosen), key=lambda entry: -entry.earliness)
        cases = [entry.case for entry in kept]
        if cases:
            items = self.explain([entry.item for entry in kept], engine)
            cases = [
                replace(case, counterfactual=item.pair, nearest=item.nearest)
                for case, item in zip(cases, items, strict=True)
            ]
        records = [(-entry.earliness, encode_case(case)) for entry, case in zip(kept, cases, strict=True)]
        records = gather(records)
        failed = gather(list(getattr(engine, "failed", {}).items()))
        if idist.get_rank() == 0 and records:
            self.write([record for _, record in sorted(records, key=lambda pair: pair[0])], total, failed)

    def write(self, records: list[CaseRecord], total: int, failed: Sequence[tuple[str, str]]) -> None:
        """Write the report of cases in the order of the data set.

        Args:
            records: the cases, at least one.
            total: how many images, or cases of findings, there are in all.
            failed: name of each image that could not be read, and why.
        """
        notes = dict(self.notes)
        if failed:
            notes["Could not be read"] = "; ".join(
                error if key in error else f"{key}: {error}" for key, error in failed
            )
        if len(records) < total:
            what = "images" if not self.findings else "cases, one a finding of an image"
            notes["Shown"] = f"the {len(records):,} least sure of {total:,} {what}"
        write_case_records(
            self.path,
            _with_different_keys(records),
            title=self.title,
            classes=self.classes,
            description=self.description,
            notes=notes,
            order_by=self.order_by,
        )


def _least_sure(own: list[tuple[Any, ...]], seen: int, max_cases: int) -> tuple[set[tuple[Any, ...]], int]:
    """Which images of all processes are shown, and how many there are in all."""
    everyone = gather([(own, seen)])
    ranked = sorted((entry for entries, _ in everyone for entry in entries), reverse=True)
    return set(ranked[:max_cases]), sum(count for _, count in everyone)


def _with_different_keys(records: list[CaseRecord]) -> list[CaseRecord]:
    """Number the images that share a name: a long evaluation must not fail for it in the end."""
    counts, seen = Counter(record.key for record in records), Counter[str]()
    named = []
    for record in records:
        seen[record.key] += 1
        more = "" if counts[record.key] == 1 else f" ({seen[record.key]})"
        key, image = record.key + more, record.row["image"] + more
        named.append(replace(record, key=key, row={**record.row, "key": key, "image": image}))
    return named


def _case(engine: Engine, key: str, source: Mapping[str, Any], result: dict[str, Any], item: ExplainedItem) -> Case:
    label, volume = source.get("label"), _volume(item)
    uncertainty = of_final_probabilities(result.get(OutputKeys.UNCERTAINTY, {}), item.probabilities)
    spent, decided = result.get(OutputKeys.NETWORK_EVALUATIONS), result.get(OutputKeys.DECIDED)
    return Case(
        key=key,
        image=item.plane(item.image),
        probabilities=item.probabilities.double().numpy(),
        uncalibrated=_array(result.get(OutputKeys.PRED_UNCALIBRATED)),
        vote_share=_array(result.get(OutputKeys.VOTE_SHARE)),
        uncertainty={name: float(value) for name, value in uncertainty.items()},
        errors=_errors(engine, result),
        label=None if label is None else int(label),
        decision_map=None if item.decision_map is None else item.plane(item.decision_map),
        rival=item.rival,
        prediction_set=_classes(result.get(OutputKeys.PREDICTION_SET)),
        ood_score=_number(result.get(OutputKeys.OOD_SCORE)),
        ood_p_value=_number(result.get(OutputKeys.OOD_P_VALUE)),
        network_evaluations=None if spent is None else int(spent),
        decided=None if decided is None else bool(decided),
        volume=volume,
        note="" if volume is None or item.voxel is None else f"slice {item.voxel[-1] + 1} of {volume.image.shape[-1]}",
        warnings=warnings_of(source, result),
    )


def _volume(item: ExplainedItem) -> CaseVolume | None:
    """The volume and its map, upright; None for a plane."""
    if item.voxel is None:
        return None
    image, size = upright_volume(item.image, item.affine)
    difference = None if item.decision_map is None else upright_volume(item.decision_map, item.affine)[0]
    return CaseVolume(image=image, decision_map=difference, voxel_size=size)


def _errors(engine: Engine, result: dict[str, Any]) -> DenoisingErrors | None:
    """The errors with their noise levels, which the inferer knows."""
    inferer = getattr(engine, "inferer", None)
    if OutputKeys.ERRORS not in result or not isinstance(inferer, DiffusionClassifierInferer):
        return None
    values = np.array(torch.as_tensor(result[OutputKeys.ERRORS]).detach().float().cpu())
    return inferer.errors_from_values(torch.from_numpy(values)[None], int(result["image"].numel()))


def _array(value: Any) -> Any:
    return None if value is None else np.array(torch.as_tensor(value).detach().double().cpu())


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _classes(value: Any) -> list[int] | None:
    """The classes of a set [K], bool."""
    return None if value is None else torch.as_tensor(value).flatten().nonzero().flatten().tolist()
