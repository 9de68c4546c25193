"""The measured recipe: the figures to reach, and the table of docs/recipe.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.recipe import VARIANTS, make_variant, markdown, measure, write_textures
from benchmarks.bundles import RESULTS
from monai_diffclf.recipe import ImagesSeen, choose_recipe

ROOT = Path(__file__).resolve().parents[2]
FOUND = json.loads((RESULTS / "recipe.json").read_text())


def test_table_of_the_documentation_is_that_of_the_results() -> None:
    assert markdown(FOUND) in (ROOT / "docs" / "recipe.md").read_text()


def test_easy_classes_reach_the_figures() -> None:
    for variant, found in FOUND["example_scans"].items():
        assert found["floor"]["logistic_regression"]["macro_auc"] > 0.98, variant
        assert found["mean_min_snr"]["auc"] >= 0.98 and found["mean_min_snr"]["accuracy"] >= 0.93, variant


def test_variants_change_one_thing() -> None:
    recipe = choose_recipe(ImagesSeen(("a", "b"), {"train": (720, 720), "validation": (90, 90)}))
    assert make_variant(recipe, "recipe").settings == {**recipe.settings, "val_interval": recipe.settings["max_epochs"]}
    assert make_variant(recipe, "quarter").settings["max_epochs"] == round(recipe.settings["max_epochs"] / 4)
    for name, (_, changes) in VARIANTS.items():
        settings = make_variant(recipe, name).settings
        changed = {key for key, value in recipe.settings.items() if settings[key] != value}
        assert changed <= {*changes, "max_epochs", "val_interval"}


@pytest.mark.slow
def test_a_measurement(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", (0.05, {}))
    write_textures(tmp_path / "textures", 240, 16)
    found = measure(tmp_path / "textures", "tiny", {})
    assert found["image_size"] == [16, 16] and 0 <= found["vote"]["auc"] <= 1
    assert found["floor"]["extra_trees"]["macro_auc"] > 0.5
