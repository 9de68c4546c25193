# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Classifies a block of images by a bundle's own evaluator."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose

from .._command_end import one_line
from ..bundle import Bundle
from ..engines import DiffusionClassifierEvaluator, TolerantDataset, Unreadable, collate_readable
from ..handlers import CaseReport, ShiftWarning
from ..handlers.prediction_table import prediction_row
from ..image_io.map_file import is_of_volumes
from ..keys import OutputKeys
from ..networks import network_hash
from ..report.case_record import encode_case
from .block_record import BlockRecord, RankedCase
from .dicom_results import algorithm_of, image_files, is_dicom
from .inputs import ArchiveImage
from .maps import map_files
from .plan import THREADS, ClassifierSettings, batch_size

__all__ = ["BlockClassifier", "bundle_handler", "case_report", "reads_volumes"]


class BlockClassifier:
    """A bundle ready to classify blocks of an archive, one after the other.

    The evaluator, with preprocessing and post-processing, is that of the bundle's inference; of its handlers the case
    report and the warning of a shift are asked what they need to know of an image.

    Args:
        settings: the bundle and how it classifies.
        fingerprint: that of the plan, for the records.
        bundle: the bundle, where these settings have opened it; otherwise it is opened here.
        device: where to compute, if not where the settings say.
    """

    def __init__(
        self,
        settings: ClassifierSettings,
        fingerprint: str,
        *,
        bundle: Bundle | None = None,
        device: str | None = None,
    ) -> None:
        torch.set_num_threads(THREADS)
        self.settings, self._fingerprint = settings, fingerprint
        self.bundle = settings.open(device) if bundle is None else bundle
        self._batch = batch_size(self.bundle)
        self._preprocessing = list(cast(Compose, self.bundle.get("preprocessing")).transforms)
        self._report = case_report(self.bundle) if settings.report else None
        self._shift = bundle_handler(self.bundle, ShiftWarning)
        self._evaluator = self._make_evaluator()
        self._algorithm = algorithm_of(self.bundle, network_hash(self.bundle.network)) if settings.dicom else None
        self._unsureness: list[float] = []  # of the least sure images so far, as many as the report shows

    def classify(
        self, number: int, images: Sequence[ArchiveImage], first: int, on_batch: Callable[[int], None] | None = None
    ) -> BlockRecord:
        """The results of a block.

        Args:
            number: number of the block.
            images: its images.
            first: place of the first one in the archive.
            on_batch: called with the number of images after each batch.

        Raises:
            ValueError: when an image cannot be read and the settings are strict about that.
        """
        record = BlockRecord(self._fingerprint, number)
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            self._add_batch(record, part, first + start)
            if on_batch is not None:
                on_batch(len(part))
        return record

    def _add_batch(self, record: BlockRecord, images: Sequence[ArchiveImage], first: int) -> None:
        items = self._read(images)
        results = self._evaluate(items)
        errors = []
        for place, (image, item) in enumerate(zip(images, items, strict=True), start=first):
            series = {} if image.series is None else {"series": image.series.series, "slice": image.series.number}
            if isinstance(item, Unreadable):
                record.rows.append({"key": image.key, "error": item.error, **series})
                continue
            source, result = next(results)
            maps = map_files(self.settings.maps, image, place, item, result, self._preprocessing)
            record.maps |= maps
            row = prediction_row(source, result, self.bundle.classes, pictures=[f"maps/{name}" for name in maps])
            record.rows.append({**row, **series})
            self._add_case(record, source, result, place)
            self._add_dicom(record, image, place, item, result, row)
            if self._shift is not None and OutputKeys.ERRORS in result:
                errors.append(torch.as_tensor(result[OutputKeys.ERRORS]).detach().float().cpu().numpy())
        if errors:
            found = np.stack(errors)
            record.errors = found if record.errors is None else np.concatenate([record.errors, found])

    def _read(self, images: Sequence[ArchiveImage]) -> list[Any]:
        """Items after preprocessing; what cannot be read as `Unreadable`."""
        # By their paths: what an image is called in the table does not say where it is.
        named = [{"image": image.path, "key": image.key} for image in images]
        dataset = TolerantDataset(named, Compose(self._preprocessing))
        items = [dataset[i] for i in range(len(dataset))]
        for item in items if self.settings.strict else ():
            if isinstance(item, Unreadable):
                raise ValueError(f"images: {item.key} cannot be read, and --strict was given: {item.error}")
        return items

    def _evaluate(self, items: list[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Item of the batch and of the output of each image that could be read."""
        if all(isinstance(item, Unreadable) for item in items):
            return iter(())
        batch = collate_readable([item for item in items if not isinstance(item, Unreadable)])
        self._evaluator.data_loader = [batch]
        self._evaluator.state.epoch_length = 1
        self._evaluator.run()
        state: Any = self._evaluator.state
        return iter(zip(state.batch, state.output, strict=True))

    def _add_case(self, record: BlockRecord, source: Any, result: dict[str, Any], place: int) -> None:
        """Keep what the report shows of an image, unless enough others of this process are less sure."""
        if self._report is None:
            return
        for unsure, own_place, case, item in self._report.make_cases(self._evaluator, source, result, place):
            if len(self._unsureness) < self.settings.max_cases:
                heapq.heappush(self._unsureness, unsure)
            elif unsure < self._unsureness[0]:
                continue
            else:
                heapq.heapreplace(self._unsureness, unsure)
            (shown,) = self._report.explain([item], self._evaluator)
            case = replace(case, counterfactual=shown.pair, nearest=shown.nearest)
            record.cases.append(RankedCase(unsure, own_place, encode_case(case)))

    def _add_dicom(
        self, record: BlockRecord, image: ArchiveImage, place: int, item: Any, result: dict[str, Any], row: Any
    ) -> None:
        """Make the DICOM files about a DICOM image, or note why there are none."""
        if self._algorithm is None or not is_dicom(image):
            return
        try:
            record.dicom |= image_files(
                image,
                place,
                item,
                result,
                row,
                preprocessing=self._preprocessing,
                classes=self.bundle.classes,
                algorithm=self._algorithm,
                begun=self.settings.begun,
            )
        except ValueError as error:
            if self.settings.strict:
                raise ValueError(
                    f"images: {image.key} has no DICOM results, and --strict was given: {error}"
                ) from error
            record.faults[image.key] = one_line(str(error))

    def _make_evaluator(self) -> Any:
        _ = self.bundle.network  # refuses weights that are absent or another model's
        evaluator = self.bundle.get("evaluator")
        if isinstance(evaluator, DiffusionClassifierEvaluator):
            evaluator.journal_dir = None
        evaluator.add_event_handler(Events.EXCEPTION_RAISED, _raise)
        # Its own speaks of every run, of which there are many here.
        evaluator.logger = logging.getLogger(__name__)
        evaluator.logger.setLevel(logging.WARNING)
        return evaluator


def _raise(engine: Engine, error: BaseException) -> None:
    raise error


def reads_volumes(bundle: Bundle) -> bool:
    """Whether a bundle takes whole volumes: its first transform is `ReadVolumed`."""
    return is_of_volumes(list(cast(Compose, bundle.get("preprocessing")).transforms))


def case_report(bundle: Bundle) -> CaseReport:
    """The case report of a bundle's inference; where it has none, a plain one."""
    found = bundle_handler(bundle, CaseReport)
    return found if isinstance(found, CaseReport) else CaseReport("cases.html", bundle.classes, title=bundle.name)


def bundle_handler(bundle: Bundle, kind: type) -> Any:
    """The handler of a kind in a bundle's inference, None where there is none or it is switched off."""
    listed, named = bundle.parser.get("handlers", []), bundle.parser.get("named_handlers", {})
    places = {f"named_handlers#{name}": handler for name, handler in named.items()}
    places |= {f"handlers#{number}": handler for number, handler in enumerate(listed)}
    for place, handler in places.items():
        if isinstance(handler, dict) and str(handler.get("_target_")).rpartition(".")[2] == kind.__name__:
            return bundle.get(place)
    return None
