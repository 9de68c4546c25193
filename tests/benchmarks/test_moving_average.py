"""The figure to reach: the moving average's AUC within .01 of the raw weights', however short the training."""

from __future__ import annotations

import json

import pytest

from benchmarks.accuracy.moving_average import CLASSES, LENGTHS, images_of, train
from benchmarks.bundles import RESULTS


def test_the_average_is_as_good_as_the_weights_at_every_length() -> None:
    found = json.loads((RESULTS / "moving_average.json").read_text())
    for kind, seeds in found["trainings"].items():
        for seed, lengths in seeds.items():
            assert sorted(map(int, lengths)) == list(LENGTHS)
            for length, networks in lengths.items():
                gap = networks["after_warmup"]["auc"] - networks["raw"]["auc"]
                assert abs(gap) < 0.01, (kind, seed, length)
                if length == "144":
                    assert networks["constant"]["accuracy"] < networks["after_warmup"]["accuracy"] - 0.2


@pytest.mark.slow
def test_a_short_training_as_it_is_measured() -> None:
    found = train(144, (50, 144), 0, images_of(10, 1))
    for networks in found.values():
        assert abs(networks["after_warmup"]["auc"] - networks["raw"]["auc"]) < 0.01
    assert len(CLASSES) == 6 and found["144"]["constant"]["accuracy"] < 0.8 < found["144"]["raw"]["accuracy"]
