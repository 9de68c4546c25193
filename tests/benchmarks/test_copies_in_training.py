"""Test images of ISIC 2017 that are training images: found by their pixels, and what the figures are without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.copies_in_training import TABLES, figures, find_copies, read_tables
from monai_diffclf.handlers.evaluation_saver import read_predictions

WRITTEN = json.loads(
    (Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "isic2017_copies.json").read_text()
)


def test_the_figures_are_those_of_the_stored_predictions():
    tables = read_tables()
    same = {row["test"] for row in WRITTEN["copies"]["train"] if row["same_picture"]}
    assert len(same) == 4 and same <= set(read_predictions(TABLES["resnet18"])["keys"])
    found = figures(tables, same)
    assert found["num_images"] == 596
    for name in TABLES:
        for metric, value in WRITTEN["without_copies"][name].items():
            assert found[name][metric] == pytest.approx(value, abs=1e-9), (name, metric)
    without, everything = (WRITTEN[which]["diffusion_vote"]["auc"]["value"] for which in ("without_copies", "all"))
    assert abs(without - everything) < 0.005


def test_unknown_images_are_refused():
    with pytest.raises(ValueError, match=r"without: expected test images of the tables, got \['elsewhere.jpg'\]"):
        figures(read_tables(), {"elsewhere.jpg"})


@pytest.mark.slow
def test_the_copies_are_found_in_the_images(dataset):
    assert find_copies(dataset("isic2017_256")) == WRITTEN["copies"]
