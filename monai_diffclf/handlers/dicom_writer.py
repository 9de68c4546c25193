# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handler that writes DICOM results of the DICOM images of an evaluation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.transforms import Compose
from monai.utils import CommonKeys

from .. import __version__
from .._class_names import class_names
from .._optional import require
from ..dicom_out import Algorithm, dicom_files
from ..image_io.map_file import is_of_volumes
from ..keys import OutputKeys
from ..networks import network_hash
from ..storage.atomic_file import replaced
from ..storage.outputs import Outputs
from .classification_writer import map_in_image_size
from .finding_view import is_multi_label
from .prediction_table import finding_rows, prediction_row

__all__ = ["DicomWriter"]


class DicomWriter:
    """Write a report, and with error maps a parametric map and a picture, of each DICOM image of an evaluation.

    For a `DiffusionClassifierEvaluator`, or MONAI's `SupervisedEvaluator`, whose batch and output are decollated, on
    images that `ReadImaged` has read, or volumes that `ReadVolumed` has: the file or folder is the one that their
    metadata names. See `monai_diffclf.dicom_out`. Files are called ``NUMBER_report.dcm``, ``NUMBER_map.dcm`` and
    ``NUMBER_overlay.dcm`` by the image's place, of several findings ``NUMBER_finding_0_map.dcm`` and so on, each
    written as a whole. What an earlier evaluation wrote there is removed when one begins. Images of which nothing can
    be made, as they are no DICOM or lack UIDs, are counted in one warning at the end.

    Args:
        output_dir: folder to write to.
        classes: names of the classes, or of the findings.
        preprocessing: the transforms of the images, `ReadImaged` or `ReadVolumed` first, by which maps find back to
            the file.
        name: what the report calls the classifier: the bundle's name.

    Raises:
        ValueError: when highdicom is not installed.

    Warns:
        UserWarning: at the end, when images have no results, with the reason of the first.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        classes: Sequence[str],
        *,
        preprocessing: Compose | Sequence[Callable[..., Any]],
        name: str,
    ) -> None:
        require("highdicom", argument="output_dir", purpose="writing DICOM", extra="highdicom")
        self.output_dir, self.classes, self.name = Path(output_dir), class_names(classes), name
        transforms = preprocessing.transforms if isinstance(preprocessing, Compose) else preprocessing
        self.preprocessing: list[Any] = list(transforms)
        self._outputs = Outputs(self.output_dir, "dicom")
        self._algorithm = Algorithm(name, __version__, "")
        self._when = datetime.now()
        self._count = 0
        self._left_out: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._outputs = Outputs(self.output_dir, "dicom")
        self._outputs.begin()
        self._count, self._left_out = 0, []
        self._when = datetime.now().replace(microsecond=0)
        evaluator: Any = engine
        inferer = evaluator.inferer
        said = [f"{name}={getattr(inferer, name)}" for name in ("num_draws", "rule", "seed") if hasattr(inferer, name)]
        self._algorithm = Algorithm(self.name, __version__, network_hash(evaluator.network), tuple(said))

    def _write(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        unreadable = getattr(engine, "unreadable", {})
        results = iter(zip(batch, output, strict=True))
        for place in range(len(output) + len(unreadable)):
            if place not in unreadable:
                self._write_image(*next(results))
            self._count += 1

    def _write_image(self, source: Any, result: dict[str, Any]) -> None:
        image = source[CommonKeys.IMAGE]
        path = str(getattr(image, "meta", {}).get("filename_or_obj", ""))
        rows: Any = finding_rows if is_multi_label(result) else prediction_row
        row = rows({**source, "key": path}, result, self.classes)
        values = map_in_image_size(result, image, self.preprocessing) if OutputKeys.ERROR_MAPS in result else None
        volume = is_of_volumes(self.preprocessing)
        try:
            files = dicom_files(path, row, self.classes, self._algorithm, values, when=self._when, volume=volume)
        except (ValueError, OSError) as error:
            self._left_out.append(str(error))
            return
        for kind, content in files.items():
            name = f"{self._count:06d}_{kind}.dcm"
            self._outputs.add([name])
            with replaced(self.output_dir / name) as temporary:
                temporary.write_bytes(content)

    def _finish(self, engine: Engine) -> None:
        if self._left_out:
            count = len(self._left_out)
            warnings.warn(f"{count:,} image(s) have no DICOM results; the first: {self._left_out[0]}", stacklevel=2)
