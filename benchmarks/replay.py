"""Passes on to ``python -m benchmarks.fewer_draws.replay``, for those who call it by this path, from any folder."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("benchmarks.fewer_draws.replay", run_name="__main__", alter_sys=True)
