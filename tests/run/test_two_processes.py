# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Commands on one output folder do not mix their results; many more trials are made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_commands_killed_at_random_leave_what_one_would(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tests.run.two_processes",
        str(tmp_path / "trials"),
        "--trials",
        "4",
        "--seed",
        "3",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert json.loads(done.stdout)["wrong"] == []
