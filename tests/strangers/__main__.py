"""``python -m tests.strangers``: read every case, print those that went wrong, and count."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from . import all_cases
from .cases import judge

counts: Counter[str] = Counter()
for case in all_cases():
    with tempfile.TemporaryDirectory() as folder:
        verdict = judge(case, Path(folder))
    counts[verdict.partition(":")[0]] += 1
    if verdict not in ("right", "refused"):
        print(f"{case.name}: {verdict}")
print(dict(counts))
sys.exit(bool(counts.total() - counts["right"] - counts["refused"]))
