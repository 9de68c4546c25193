# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The application: MONAI Deploy's own operators load studies and select series, one of ours classifies them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from .._optional import require
from ..archive import ClassifierSettings, classify_archive

__all__ = ["application_class", "classify_series", "series_files"]

_SDK = "pip install 'monai-diffclf[deploy]'"


def series_files(studies: Iterable[Any]) -> list[Path]:
    """The files of all series that were selected.

    Args:
        studies: `StudySelectedSeries` of the SDK.

    Raises:
        ValueError: when no series was selected.
    """
    files = [
        Path(instance.get_native_sop_instance().filename)
        for study in studies
        for selected in study.selected_series
        for instance in selected.series.get_sop_instances()
    ]
    if not files:
        raise ValueError("input: expected studies with series that the rules select, got none")
    return list(dict.fromkeys(files))


def classify_series(studies: Iterable[Any], bundle: Path, output: Path) -> Path:
    """Classify the selected series, and write DICOM results, see `monai_diffclf.archive.classify_archive`.

    Args:
        studies: `StudySelectedSeries` of the SDK.
        bundle: folder of the bundle.
        output: gets ``results``, the table, and ``dicom``, the objects.

    Returns:
        the folder of the DICOM objects.
    """
    settings = ClassifierSettings(str(bundle), report=False)
    dicom = output / "dicom"
    classify_archive(series_files(studies), settings, output / "results", dicom_out=dicom, progress=False)
    return dicom


def application_class(rules: str = "") -> Any:
    """The class of the application, for ``application_class()().run()``.

    Its command line is the SDK's: ``-i`` folder of DICOM files, ``-m`` folder of the bundle, ``-o`` folder of results.

    Args:
        rules: the SDK's rules of selection, as JSON; empty for every series.

    Raises:
        ValueError: when the SDK is not installed.
    """
    require("monai.deploy", argument="deploy", purpose="the application", command=_SDK)
    core: Any = import_module("monai.deploy.core")
    loading: Any = import_module("monai.deploy.operators.dicom_data_loader_operator")
    selecting: Any = import_module("monai.deploy.operators.dicom_series_selector_operator")
    conditions: Any = import_module("monai.deploy.conditions")

    class ClassifySeriesOperator(core.Operator):
        """Classifies what was selected."""

        def __init__(self, fragment: Any, *args: Any, bundle: Path, output: Path, **kwargs: Any) -> None:
            self.bundle, self.output = bundle, output
            super().__init__(fragment, *args, **kwargs)

        def setup(self, spec: Any) -> None:
            """One input."""
            spec.input("study_selected_series_list")

        def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
            """Classify."""
            classify_series(op_input.receive("study_selected_series_list"), self.bundle, self.output)

    class DiffusionClassifierApplication(core.Application):
        """Loads studies, selects series, classifies them."""

        def compose(self) -> None:
            """The three operators, each once."""
            context = core.Application.init_app_context(self.argv)
            once = conditions.CountCondition(self, 1)
            load = loading.DICOMDataLoaderOperator(self, once, input_folder=Path(context.input_path), name="load")
            select = selecting.DICOMSeriesSelectorOperator(self, rules=rules, all_matched=True, name="select")
            classify = ClassifySeriesOperator(
                self, bundle=Path(context.model_path), output=Path(context.output_path), name="classify"
            )
            self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
            self.add_flow(select, classify, {("study_selected_series_list", "study_selected_series_list")})

    return DiffusionClassifierApplication
