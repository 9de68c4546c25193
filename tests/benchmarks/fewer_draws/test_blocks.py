"""What small blocks of images save depends on the hardest of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fewer_draws.blocks import saving

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def test_equal_images_give_equal_blocks():
    found = saving(np.full(50, 20.0), 1000, block=8, blocks=30)
    assert found["all_images"] == 50 and {*found["blocks"].values(), *found["images"].values()} == {50}


def test_one_hard_image_slows_its_block():
    evaluations = np.full(100, 10.0)
    evaluations[0] = 1000
    found = saving(evaluations, 1000, block=8, blocks=2000)
    assert found["all_images"] == pytest.approx(1000 / 19.9)
    assert found["blocks"]["highest"] == found["blocks"]["percentile_50"] == 100
    assert found["blocks"]["lowest"] == pytest.approx(1000 / (1070 / 8))
    assert found["images"]["lowest"] == 1 and found["images"]["percentile_5"] == found["images"]["highest"] == 100


def test_the_page_of_the_benchmarks_shows_the_range_of_the_blocks():
    speed = json.loads((RESULTS / "speed.json").read_text())
    page = (RESULTS.parents[1] / "docs" / "benchmark.html").read_text()
    for row in speed["methods"]:
        each = row["times_faster_in_each_block"]
        if row["name"] != "reference":
            assert f"{row['times_faster']:.2f} <small>({min(each):.1f} to {max(each):.1f})</small>" in page, row["name"]
