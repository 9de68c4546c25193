"""Accuracy against the number of draws, on errors whose best level is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.fewer_draws.by_number import at_levels, report
from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.storage import StoredErrors

DRAWS = 48
LOG_SNR = torch.linspace(8, -8, DRAWS)[torch.randperm(DRAWS, generator=torch.Generator().manual_seed(3))]


def stored(images: int, seed: int) -> StoredErrors:
    """One number an image says it all, around a log-SNR of 4."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 2
    lead = torch.randn(images, 1, generator=generator) + 1.2 * (2 * labels[:, None] - 1)
    shape = torch.exp(-((LOG_SNR - 4) ** 2) / 8)
    x = lead * shape + 0.1 * torch.randn(images, DRAWS, generator=generator)
    errors = DenoisingErrors(torch.stack([5 + x, 5 - x], 1), torch.arange(DRAWS), LOG_SNR)
    return StoredErrors(errors, labels, [f"{seed}_{i}" for i in range(images)], [""] * images)


def test_one_draw_decides_as_all_where_all_say_the_same():
    fit, judged = stored(240, 0), stored(200, 1)
    made = report(fit, judged, "uniform", [0.02, 0.001], resamples=40)
    one = made["at_chosen_levels"]["1"]
    assert one["log_snr"][0] == pytest.approx(4, abs=1.5)
    assert abs(one["difference_from_all"]["value"]) < 0.005
    assert (
        one["difference_from_all"]["low"] <= one["difference_from_all"]["value"] <= one["difference_from_all"]["high"]
    )
    by_level = {round(band["log_snr"]): band["auc"] for band in made["one_draw_by_level"]}
    assert max(by_level, key=by_level.get) in (3, 4, 5) and by_level[min(by_level)] < 0.7
    assert list(made["first_draws"]) == ["1", "2", "4", "8", "16", "32", "48"]
    early = made["stopping"]["0.02"]
    assert early["agreement"] >= 0.97 and early["at_once"] > 0.85 and early["evaluations"] < 4
    assert "not_fitted" in made["stopping"]["0.001"]
    # Rows in another order are the same images.
    turn = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    turned = replace(
        judged, errors=judged.errors[turn], labels=judged.labels[turn], keys=[judged.keys[i] for i in turn.tolist()]
    )
    again = at_levels(fit, turned, "uniform", resamples=1)["1"]
    assert again["auc"] == pytest.approx(one["auc"])
