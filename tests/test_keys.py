"""One name for each output; old names are answered, say what they are now, and show up nowhere else."""

from __future__ import annotations

import ast
import copy
import pickle
import warnings
from pathlib import Path

import pytest
from monai.transforms import Compose, CopyItemsd, ToDeviced

import monai_diffclf.keys
from monai_diffclf._moved import renamed_arguments
from monai_diffclf.keys import (
    NamedValues,
    OutputKeys,
    UncertaintyKeys,
    current_name,
    warn_of_old_keys,
    with_old_names,
)


def test_names_are_plain_lower_case_and_differ():
    names = [*OutputKeys, *UncertaintyKeys]
    assert len({name.value for name in names}) == len(names)
    assert all(name.value == name.name.lower() == str(name) for name in names)


def test_everything_may_import_it():
    tree = ast.parse(Path(monai_diffclf.keys.__file__).read_text(encoding="utf-8"))
    modules = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert all(getattr(node, "level", 0) == 0 for node in modules)
    assert not any("monai_diffclf" in (getattr(node, "module", None) or "") for node in modules)


@pytest.mark.parametrize(
    ("old", "present", "new"),
    [
        ("votes", ["vote_share"], "vote_share"),
        ("votes", ["probe_share"], "probe_share"),
        ("evaluations", ["network_evaluations"], "network_evaluations"),
        ("explanation", ["error_maps"], "error_maps"),
        ("error_map", ["decision_map", "error_maps"], "decision_map"),
        # Of errors both margins are there, and the votes' is meant; of likelihoods the probabilities' was.
        ("margin", ["probability_margin", "vote_margin"], "vote_margin"),
        ("margin", ["probability_margin", "probe_margin"], "probability_margin"),
        ("entropy", ["probability_entropy", "probe_entropy"], "probability_entropy"),
        ("vote_variance", ["probe_variance"], "probe_variance"),
        ("entropy_remaining", ["probe_entropy_remaining"], "probe_entropy_remaining"),
    ],
)
def test_old_names_are_answered_and_not_shown(old, present, new):
    plain = {name: i for i, name in enumerate(present)}
    values = NamedValues(plain)
    for ask in (lambda: values[old], lambda: values.get(old), lambda: values[current_name(old, values)]):
        with pytest.warns(DeprecationWarning, match=f"'{old}' is now '{new}'"):
            assert ask() == plain[new]
    assert old in values
    assert old not in list(values) and old not in dict(values)
    assert values == plain and len(values) == len(plain)


def test_a_warning_names_the_line_that_asked():
    with pytest.warns(DeprecationWarning) as caught:
        NamedValues({"vote_margin": 1})["margin"]
        NamedValues({"vote_margin": 1}).get("margin")
        current_name("margin", ["vote_margin"])
    assert {warning.filename for warning in caught} == {__file__}


def test_present_names_are_taken_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        votes = NamedValues({UncertaintyKeys.VOTE_ENTROPY: 1, UncertaintyKeys.PROBABILITY_ENTROPY: 2})
        assert (votes["vote_entropy"], votes["probability_entropy"]) == (1, 2)
        assert "entropy" not in votes and votes.get("entropy") is None, "of two entropies neither is meant"
        assert current_name("vote_entropy", votes) == "vote_entropy" and current_name("x", votes) == "x"
        assert (votes.get("x"), votes.get("x", 5), "x" in votes, None in votes) == (None, 5, False, False)
        assert repr(votes) == "{'vote_entropy': 1, 'probability_entropy': 2}", "plain text, as ever"
    with pytest.raises(KeyError, match="entropy"):
        votes["entropy"]


def test_copies_still_answer():
    values = NamedValues({"error_maps": 3})
    for again in (pickle.loads(pickle.dumps(values)), copy.copy(values), copy.deepcopy(values)):  # noqa: S301
        with pytest.warns(DeprecationWarning, match="is now 'error_maps'"):
            assert again["explanation"] == 3


def test_outputs_under_both_names():
    both = with_old_names({OutputKeys.PROBE_SHARE: 1, OutputKeys.NETWORK_EVALUATIONS: 2, "image": 3})
    expected = {"probe_share": 1, "network_evaluations": 2, "image": 3, "votes": 1, "evaluations": 2}
    assert dict(both) == both == expected
    both["votes"] = 7
    with pytest.warns(DeprecationWarning, match="'votes' is now 'probe_share'"):
        assert both["votes"] == 7, "what a transform has put there"


def test_keys_of_transforms_are_looked_through():
    nested = Compose([ToDeviced("pred", "cpu"), Compose([CopyItemsd(["votes", "explanation"], names=["a", "b"])])])
    with pytest.warns(DeprecationWarning) as caught:
        warn_of_old_keys(nested)
    assert [str(warning.message) for warning in caught] == [
        "'votes' is now 'vote_share'",
        "'explanation' is now 'error_maps'",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_old_keys(Compose([ToDeviced(["pred", "error_maps"], "cpu"), lambda item: item]))


def test_arguments_under_two_names_are_refused():
    paint = renamed_arguments(colour="color")(lambda *, color: color)
    with pytest.warns(DeprecationWarning, match="the argument colour is now color"):
        assert paint(colour="red") == "red"
    with pytest.raises(TypeError, match="color: expected it once, got colour, its old name, too"):
        paint(colour="red", color="blue")
