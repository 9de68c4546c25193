"""Where the bundles and the results lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
RESULTS = ROOT / "benchmarks" / "results"
