"""Two results with one base: each has the fields of its method and no others, and old names still answer."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import (
    SURE_WHEN_LARGE,
    Classification,
    DenoisingClassification,
    DenoisingErrors,
    LikelihoodClassification,
    classify_errors,
    classify_likelihood,
    probability_uncertainty,
    vote_uncertainty,
)
from monai_diffclf.classification.vote_statistics import of_final_probabilities, probe_uncertainty
from monai_diffclf.keys import OutputKeys, UncertaintyKeys

COMMON = {"predicted", "probabilities", "uncertainty", "network_evaluations", "decided", "guarantee", "error_maps"}


def by_errors() -> DenoisingClassification:
    """Five draws of two images: three votes to two, and five to none."""
    values = torch.tensor([[[1.0, 1, 1, 2, 2], [2.0, 2, 2, 1, 1]], [[1.0] * 5, [2.0] * 5]])
    errors = DenoisingErrors(values, torch.arange(5), torch.zeros(5), num_elements=1)
    return classify_errors(errors, "mean")


def by_likelihood() -> LikelihoodClassification:
    """Three probes of one image; two of them would choose class 1, the mean chooses class 0."""
    values = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 0.5, 0.5]]], dtype=torch.float64)
    return classify_likelihood(values, num_elements=4)


def test_fields_are_those_of_the_method():
    assert {field.name for field in fields(Classification)} == COMMON
    assert {field.name for field in fields(by_errors())} - COMMON == {"vote_share", "mean_error", "errors"}
    own = {"log_likelihood", "probe_log_likelihood", "probe_share", "num_elements"}
    assert {field.name for field in fields(by_likelihood())} - COMMON == own
    assert isinstance(by_errors(), Classification) and isinstance(by_likelihood(), Classification)
    with pytest.raises(TypeError, match="abstract"):
        Classification(**dict.fromkeys(COMMON))
    assert (len(by_errors()), len(by_likelihood())) == (2, 1)
    assert torch.equal(by_errors().evidence, by_errors().errors.values)
    assert torch.equal(by_likelihood().evidence, by_likelihood().probe_log_likelihood)


def test_two_margins_are_two_numbers():
    result = by_errors()
    torch.testing.assert_close(result.uncertainty["vote_margin"], torch.tensor([0.2, 1.0]))
    # D = 1: the scores differ by half the mean difference of the errors, 1 / 5 and 1.
    odds = np.exp([0.1, 0.5])
    np.testing.assert_allclose(result.uncertainty["probability_margin"], (odds - 1) / (odds + 1), rtol=1e-5)


def test_what_was_the_margin_of_a_likelihood_is_that_of_its_probabilities():
    result = by_likelihood()
    share = torch.tensor([[1 / 3, 2 / 3]])
    torch.testing.assert_close(result.probe_share, share)
    odds = float(np.exp(2 / 3))
    assert float(result.uncertainty["probability_margin"]) == pytest.approx((odds - 1) / (odds + 1))
    assert float(result.uncertainty["probe_margin"]) == pytest.approx(1 / 3)
    assert result.predicted.tolist() == [0], "the probes' choice is another one"
    for probe, vote in (("probe_variance", "vote_variance"), ("probe_entropy_remaining", "entropy_remaining")):
        torch.testing.assert_close(result.uncertainty[probe], vote_uncertainty(share, 3)[vote])
    assert len(probe_uncertainty(share, 3)) == len(vote_uncertainty(share, 3)) == 7


def test_uncertainty_of_probabilities_against_scipy():
    p = np.random.default_rng(0).dirichlet([0.3] * 4, size=50)
    p[0] = [1, 0, 0, 0]
    got = probability_uncertainty(torch.from_numpy(p))
    np.testing.assert_allclose(got["probability_entropy"], stats.entropy(p, axis=1), rtol=1e-12, atol=1e-15)
    top = np.sort(p, axis=1)
    np.testing.assert_allclose(got["probability_margin"], top[:, -1] - top[:, -2], rtol=1e-12)
    assert probability_uncertainty(torch.from_numpy(p).float())["probability_entropy"].dtype == torch.float32
    certain = probability_uncertainty(torch.tensor([[1.0, 0.0]]))["probability_entropy"]
    assert f"{float(certain):.6f}" == "0.000000", "without a sign"


def test_changed_probabilities_change_their_own_uncertainties_only():
    before = {name: float(value[0]) for name, value in by_errors().uncertainty.items()}
    after = of_final_probabilities(before, torch.tensor([0.9, 0.1]))
    assert after.pop("probability_margin") == pytest.approx(0.8)
    assert after.pop("probability_entropy") == pytest.approx(float(stats.entropy([0.9, 0.1])))
    assert after == {name: value for name, value in before.items() if not name.startswith("probability")}
    assert of_final_probabilities({"own": 1.0}, torch.tensor([0.9, 0.1])) == {"own": 1.0}


@pytest.mark.parametrize("make", [by_errors, by_likelihood])
def test_names_are_of_the_vocabulary(make):
    result = replace(make(), error_maps=torch.zeros(len(make()), 2, 3, 3))
    outputs = result.outputs()
    assert set(outputs) <= {"pred", *OutputKeys}
    assert set(result.uncertainty) <= set(UncertaintyKeys)
    assert outputs["pred"] is result.probabilities and outputs["error_maps"] is result.error_maps
    # Under the same name as in the result, but that the errors are their values.
    for name in set(outputs) - {"pred", "errors"}:
        assert outputs[name] is getattr(result, name)
    assert "error_maps" not in make().outputs()


@pytest.mark.parametrize("make", [by_errors, by_likelihood])
def test_the_contract_of_either_result(make):
    """The names of the common contract, whichever method made the result."""
    result = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert result.vote_share.shape == result.probabilities.shape == result.mean_error.shape
        assert {"vote_variance", "vote_entropy", "margin"} <= {name for name in VOTES if name in result.uncertainty}
        assert all(result.uncertainty[name].shape == (len(result),) for name in VOTES)
        assert (result.errors is None) == isinstance(result, LikelihoodClassification)
        assert (result.log_likelihood is None) == (result.probe_log_likelihood is None) == (make is by_errors)


VOTES = ("vote_variance", "vote_entropy", "margin", "vote_share_low", "vote_share_high")


def test_fields_of_the_other_method_warn():
    result = by_likelihood()
    with pytest.warns(DeprecationWarning, match="LikelihoodClassification.vote_share is now probe_share"):
        assert torch.equal(result.vote_share, result.probe_share)
    with pytest.warns(DeprecationWarning, match=r"mean_error is -2 \* log_likelihood / num_elements"):
        torch.testing.assert_close(result.mean_error, -result.log_likelihood / 2)
    with pytest.warns(DeprecationWarning, match=r"LikelihoodClassification.errors is absent; ask isinstance"):
        assert result.errors is None
    with pytest.warns(DeprecationWarning, match=r"DenoisingClassification.log_likelihood is absent") as caught:
        assert by_errors().log_likelihood is None
    with pytest.warns(DeprecationWarning, match=r"DenoisingClassification.probe_log_likelihood is absent"):
        assert by_errors().probe_log_likelihood is None
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.warns(DeprecationWarning, match="'margin' is now 'vote_margin'"):
        assert torch.equal(by_errors().uncertainty["margin"], by_errors().uncertainty["vote_margin"])
    with pytest.warns(DeprecationWarning, match="'margin' is now 'probability_margin'"):
        assert torch.equal(result.uncertainty["margin"], result.uncertainty["probability_margin"])


def test_own_fields_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(by_errors(), guarantee="x").vote_share.sum()
        replace(by_likelihood(), guarantee="x").probe_share.sum()
        assert by_errors().uncertainty["vote_entropy"].shape == (2,)


def test_a_rule_of_thumb_says_which_are_large_where_sure():
    sure = torch.tensor([[0.95, 0.05]]), torch.tensor([[0.6, 0.4]])
    for make in (lambda p: vote_uncertainty(p, 50), lambda p: probe_uncertainty(p, 50), probability_uncertainty):
        clear, torn = make(sure[0]), make(sure[1])
        for name in clear:
            assert (float(clear[name]) > float(torn[name])) == (name in SURE_WHEN_LARGE), name
    assert "margin" in SURE_WHEN_LARGE, "whoever still ranks by the old name must not get the reverse order"
