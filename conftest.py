"""Leaves the doctests of the MONAI Label app out where MONAI Label is not installed."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("monailabel") else ["monai_diffclf/monailabel/*"]
