# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The application: MONAI Deploy's own operators load studies and select series, one of ours classifies them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .._optional import require
from ..archive import ClassifierSettings, classify_archive
from ..archive.block_classifier import reads_volumes

__all__ = ["application_class", "bundle_of", "classify_series", "folders_of_series", "selected_series"]

_SDK = "pip install 'monai-diffclf[deploy]'"


def bundle_of(models: Path) -> Path:
    """The bundle in a folder of models: the folder itself, or the one bundle in it, as a container has it.

    Raises:
        ValueError: when there is none, or several.
    """
    folders = [models, *(sorted(models.iterdir()) if models.is_dir() else [])]
    found = [folder for folder in folders if (folder / "configs" / "inference.json").is_file()]
    if models in found or len(found) == 1:
        return found[0]
    names = [folder.name for folder in found]
    raise ValueError(f"model: expected a bundle's folder, or a folder with one bundle, got {models} with {names}")


def selected_series(studies: Iterable[Any]) -> dict[str, list[Path]]:
    """The files of all series that were selected, by their SeriesInstanceUIDs.

    Args:
        studies: `StudySelectedSeries` of the SDK.

    Raises:
        ValueError: when no series was selected.
    """
    found: dict[str, list[Path]] = {}
    for study in studies:
        for selected in study.selected_series:
            for instance in selected.series.get_sop_instances():
                dataset = instance.get_native_sop_instance()
                files = found.setdefault(str(dataset.SeriesInstanceUID), [])
                files += [] if Path(dataset.filename) in files else [Path(dataset.filename)]
    if not found:
        raise ValueError("input: expected studies with series that the rules select, got none")
    return found


def folders_of_series(series: Mapping[str, Sequence[Path]], folder: Path) -> list[Path]:
    """A folder of links for each series, as bundles for volumes read them; of a series of one file the file.

    Args:
        series: files by the series' UIDs.
        folder: where the folders are made, called by the UIDs.
    """
    found = []
    for uid, files in series.items():
        if len(files) > 1:
            (folder / uid).mkdir()
            for index, file in enumerate(files):
                (folder / uid / f"{index:06d}.dcm").symlink_to(file.resolve())
        found.append(folder / uid if len(files) > 1 else files[0])
    return found


def classify_series(studies: Iterable[Any], bundle: Path, output: Path) -> Path:
    """Classify the selected series, and write DICOM results, see `monai_diffclf.archive.classify_archive`.

    Each file is an image, or, of a bundle that reads volumes, each series.

    Args:
        studies: `StudySelectedSeries` of the SDK.
        bundle: folder of the bundle.
        output: gets ``results``, the table, and ``dicom``, the objects.

    Returns:
        the folder of the DICOM objects.
    """
    settings, series = ClassifierSettings(str(bundle), report=False), selected_series(studies)
    dicom = output / "dicom"
    with tempfile.TemporaryDirectory() as folder:
        volumes = reads_volumes(settings.open())
        images = (
            folders_of_series(series, Path(folder)) if volumes else [file for each in series.values() for file in each]
        )
        classify_archive(images, settings, output / "results", dicom_out=dicom, progress=False)
    return dicom


def application_class(rules: str = "") -> Any:
    """The class of the application, for ``application_class()().run()``.

    Its command line is the SDK's: ``-i`` folder of DICOM files, ``-m`` folder of the bundle, see `bundle_of`, ``-o``
    folder of results.

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
                self, bundle=bundle_of(Path(context.model_path)), output=Path(context.output_path), name="classify"
            )
            self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
            self.add_flow(select, classify, {("study_selected_series_list", "study_selected_series_list")})

    return DiffusionClassifierApplication
