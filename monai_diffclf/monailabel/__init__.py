# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An app for MONAI Label: class, uncertainty and error map of an image over REST.

Start it with ``python -m monai_diffclf.monailabel start_server --studies FOLDER``, see docs/monailabel.md. The classes
below the app are in the modules `app`, `infer_task`, `active_learning` and `label_store`, which need MONAI Label.

MONAI Label 0.8.5 imports pydicom_seg, which cannot be imported beside pydicom 3 and is used for DICOM segmentations
only. Importing this package puts a stand-in in its place.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__all__: list[str] = []


def _refuse(name: str) -> Any:
    if name.startswith("__"):  # what Python itself asks a module for
        raise AttributeError(name)
    raise ImportError(f"pydicom_seg.{name}: pydicom_seg is a stand-in here; DICOM segmentations cannot be written")


def _stand_in_for_pydicom_seg() -> None:
    try:
        __import__("pydicom_seg")
    except ImportError:
        module = ModuleType("pydicom_seg", "A stand-in: MONAI Label imports pydicom_seg, which needs pydicom before 3.")
        module.__dict__["__getattr__"] = _refuse
        sys.modules["pydicom_seg"] = module


_stand_in_for_pydicom_seg()
