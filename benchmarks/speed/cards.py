"""Peaks of the cards that costs are estimated for."""

from __future__ import annotations

PEAK = {"H100": 989e12, "RTX 4090": 165e12, "CPU of 1 TFLOPS": 1e12}
"""Dense operations a second in half precision: H100 SXM and RTX 4090 by their makers' data sheets."""
