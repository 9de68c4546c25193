"""The gallery shows the images it says it shows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch

from monai_diffclf.report.curves import classify, vote_uncertainty
from monai_diffclf.report.gallery import choose_images, class_difference, make_cards, mask_outline


def test_images_are_chosen_as_announced(data):
    result = classify(data.errors, "vote", "uniform")
    chosen = choose_images(data.labels, result, count=4)
    correct, uncertainty = result.predicted.numpy() == data.labels, vote_uncertainty(result)
    shown = [i for group in chosen.values() for i in group]
    assert len(shown) == len(set(shown))
    assert correct[chosen["sure"]].all()
    assert not correct[chosen["wrong"]].any()
    assert data.labels[chosen["sure"]].tolist() == [0, 1, 0, 1]
    assert (uncertainty[chosen["sure"]] == uncertainty[correct].min()).all()
    assert (np.diff(uncertainty[chosen["wrong"]]) >= 0).all()
    others = [i for i in range(len(correct)) if i not in shown]
    assert uncertainty[chosen["uncertain"]].min() >= uncertainty[others].max()


def test_without_errors_nothing_is_wrong(data):
    values = torch.ones(40, 2, 11)
    values[torch.arange(40), torch.tensor(data.labels)] = 0
    chosen = choose_images(data.labels, classify(replace(data.errors, values=values), "vote", "uniform"))
    assert chosen["wrong"] == []
    assert len(chosen["sure"]) == len(chosen["uncertain"]) == 6


def test_difference_is_positive_where_the_called_class_explains_better(data):
    result = classify(data.errors, "vote", "uniform")
    maps = np.ones((40, 2, 16, 16))
    maps[np.arange(40), result.predicted.numpy(), :, :8] = 0
    difference = class_difference(maps, result)
    assert (difference[:, :, :6] > 0.9).all()
    assert (np.abs(difference[:, :, 10:]) < 0.1).all()


def test_outline_follows_the_pixels():
    mask = np.zeros((4, 5))
    mask[1, 2] = mask[1, 3] = 1
    strokes = re.findall(r"M(\d) (\d)([vh])1", mask_outline(mask))
    expected = {("2", "1", "v"), ("4", "1", "v"), ("2", "1", "h"), ("3", "1", "h"), ("2", "2", "h"), ("3", "2", "h")}
    assert len(strokes) == 6
    assert set(strokes) == expected
    assert mask_outline(np.zeros((4, 5))) == ""


def test_cards_tell_votes_and_verdict(data):
    result = classify(data.errors, "vote", "uniform")
    wrong = int(np.flatnonzero(result.predicted.numpy() != data.labels)[0])
    card = make_cards(data, result, {"wrong": [wrong]})["wrong"]
    names = data.class_names
    votes = (result.vote_share[wrong] * 11).round().int().tolist()
    assert f"{votes[0]} clear · {votes[1]} lesion" in card
    assert f'>{names[data.labels[wrong]]}</b>, called <b class="c{int(result.predicted[wrong])}">' in card
    assert '<span class="wrong">wrong</span>' in card
    assert f"film &lt;{wrong}&gt;" in card
    assert card.count("data:image/png") == 2
    assert card.count('class="outline"') == 2


def test_cards_without_maps_show_the_image_alone(data):
    plain = replace(data, error_maps=None, masks=None, keys=None)
    card = make_cards(plain, classify(data.errors, "vote", "uniform"), {"sure": [3]})["sure"]
    assert card.count("data:image/png") == 1
    assert "outline" not in card
    assert "image 3" in card
