# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The file in which MONAI Label looks for an app: ``monailabel start_server --app`` takes the folder it is in.

A folder of your own with a ``main.py`` of this one line is the same app.
"""

from __future__ import annotations

from monai_diffclf.monailabel.app import DiffusionClassifierApp

__all__ = ["DiffusionClassifierApp"]
