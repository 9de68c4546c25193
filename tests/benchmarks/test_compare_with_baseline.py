"""The decision rule that was set before the test set was seen, and what it gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.accuracy.compare_with_baseline import (
    BASELINE,
    COMPARED,
    DIFFUSION,
    scores_in_order,
    seen_first,
    tables,
    tuned,
)
from benchmarks.bundles import BUNDLES

WRITTEN = json.loads((BUNDLES / DIFFUSION / "docs" / "comparison.json").read_text())


def test_what_had_been_seen_is_the_first_evaluation_of_the_resnet():
    found = seen_first()
    # As results.json had it when the rule was changed.
    assert found["balanced_accuracy"]["value"] == pytest.approx(0.7987179487179488)
    assert found["threshold"] == pytest.approx(0.0413393937)
    assert WRITTEN["seen_before_the_rule_was_changed"]["resnet18"]["balanced_accuracy"] == found["balanced_accuracy"]


def test_the_preset_rule_had_chosen_the_vote():
    mean, vote = (WRITTEN["threshold_of_validation_on_validation"][f"diffusion_{rule}"] for rule in ("mean", "vote"))
    assert vote["balanced_accuracy"]["value"] > mean["balanced_accuracy"]["value"]
    assert tuned(COMPARED[DIFFUSION][0])["balanced_accuracy"] == pytest.approx(
        WRITTEN["threshold_of_validation"]["diffusion_mean"]["balanced_accuracy"]
    )


def test_tables_are_paired_by_key():
    first = tables(BASELINE)[0]
    order = np.random.default_rng(0).permutation(len(first["keys"]))
    other = {name: first[name][order] for name in ("keys", "labels", "probabilities")}
    np.testing.assert_allclose(scores_in_order(first, other, "other"), first["probabilities"][:, 1])
    other["keys"] = np.where(np.arange(len(order)) == 0, "elsewhere", other["keys"])
    with pytest.raises(ValueError, match=r"other: expected the same 624 images .* with \['elsewhere of class"):
        scores_in_order(first, other, "other")
