# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI Label's FastAPI application, for ``--uvicorn_app monai_diffclf.monailabel.server:app``.

It is MONAI Label's own; importing it from here puts the stand-in for pydicom_seg in place first.
"""

from __future__ import annotations

from monailabel.app import app

__all__ = ["app"]
