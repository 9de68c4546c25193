"""A case refuses what does not fit, and says how sure it is."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.keys import UncertaintyKeys
from monai_diffclf.report import Case, CounterfactualPair
from monai_diffclf.report.case import UNCERTAINTIES, choose_measure, unsureness

IMAGE = np.zeros((1, 8, 6))


def case(**settings) -> Case:
    return Case(**{"key": "film", "image": IMAGE, "probabilities": np.array([0.3, 0.7]), **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": np.zeros((2, 8, 6))}, r"image: expected shape \[1 or 3, H, W\] in case 'film', got \[2, 8, 6\]"),
        ({"image": np.full((1, 8, 6), np.nan)}, "image: expected finite numbers in case 'film', got NaN"),
        ({"probabilities": np.array([1.0])}, r"probabilities: expected one number a class \[K\].*got shape \[1\]"),
        ({"vote_share": np.ones(3)}, r"vote_share: expected shape \[2\] in case 'film', got \[3\]"),
        ({"uncalibrated": np.ones(3)}, r"uncalibrated: expected shape \[2\] in case 'film', got \[3\]"),
        ({"decision_map": np.zeros((6, 8))}, r"decision_map: expected shape \[8, 6\] in case 'film', got \[6, 8\]"),
        ({"label": 2}, r"label: expected 0 to 1 in case 'film', got \[2\]"),
        ({"rival": -1}, r"rival: expected 0 to 1 in case 'film', got \[-1\]"),
        ({"prediction_set": [0, 5]}, r"prediction_set: expected 0 to 1 in case 'film', got \[0, 5\]"),
        (
            {"errors": DenoisingErrors(torch.ones(2, 2, 3), torch.arange(3), torch.zeros(3))},
            r"errors: expected shape \[1, 2, 3\] in case 'film', got \[2, 2, 3\]",
        ),
        (
            {"counterfactual": CounterfactualPair(factual=IMAGE, counterfactual=IMAGE[:, :4], target=0)},
            r"counterfactual: expected shape \[1, 8, 6\] in case 'film', got \[1, 4, 6\]",
        ),
        (
            {"counterfactual": CounterfactualPair(factual=IMAGE, counterfactual=IMAGE, target=7)},
            r"target: expected 0 to 1 in case 'film', got \[7\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        case(**settings)


def test_called_right_wrong_or_unknown():
    assert case().predicted == 1
    assert [case(label=label).correct for label in (1, 0, None)] == [True, False, None]


def test_unsureness_grows_with_doubt():
    sure, torn = ({"vote_entropy": e, "margin": m} for e, m in ((0.1, 0.9), (0.6, 0.2)))
    for name in ("vote_entropy", "margin"):
        assert unsureness(case(uncertainty=sure), name) < unsureness(case(uncertainty=torn), name)
    assert unsureness(case(), "vote_entropy") == pytest.approx(0.3), "without it, 1 - probability"


def test_every_uncertainty_has_a_caption_of_its_own():
    assert set(UNCERTAINTIES) == {*UncertaintyKeys, "probability"}
    assert len({name.title for name in UNCERTAINTIES.values()}) == len(UNCERTAINTIES)
    words = [name.words for key, name in UNCERTAINTIES.items() if not key.endswith(("_low", "_high"))]
    assert len(set(words)) == len(words) and all(words)


def test_former_fields_can_be_given_and_read():
    with pytest.warns(DeprecationWarning, match="Case: the argument error_map is now decision_map"):
        old = case(error_map=np.ones((8, 6)), evaluations=5)
    assert old.decision_map.sum() == 48 and old.network_evaluations == 5
    with pytest.warns(DeprecationWarning, match="Case.evaluations is now network_evaluations"):
        assert old.evaluations == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replace(old, key="other").network_evaluations == 5
        assert {field.name for field in fields(old)}.isdisjoint(("error_map", "evaluations"))


def test_a_margin_that_does_not_say_of_what_is_shown_without_words():
    """A user's own table of before: it may be of votes or of probabilities."""
    old = case(uncertainty={"margin": 0.4})
    assert unsureness(old, "margin") == pytest.approx(-0.4) and "margin" not in UNCERTAINTIES
    with pytest.warns(DeprecationWarning, match="'margin' is now 'vote_margin'"):
        assert unsureness(case(uncertainty={"vote_margin": 0.3}), "margin") == pytest.approx(-0.3)


def test_measure_to_order_by():
    both = ["probability_entropy", "vote_entropy"]
    assert (choose_measure(None, both), choose_measure(None, both[:1])) == ("vote_entropy", "probability_entropy")
    assert (choose_measure(None, []), choose_measure("own", both)) == ("probability", "own")
