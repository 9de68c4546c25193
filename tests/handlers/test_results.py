# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import json
import subprocess

import pytest

from monai_diffclf.handlers.results import git_commit, read_results, write_results


def metrics(value, spread=0.1):
    return {"auc": {"value": value, "low": value - spread, "high": value + spread}}


def write(path, value=0.5, seed=0, **changes):
    arguments = {"split": "test", "model": "resnet18", "data": "PneumoniaMNIST", "num_images": 624, "commit": "abc"}
    return write_results(path, metrics=metrics(value), seed=seed, **(arguments | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "docs" / "results.json"


def test_layout(path):
    write(path, model="diffusion_vote", num_draws=51, network_evaluations=102, extra={"threshold": 0.4})
    entry = json.loads(path.read_text())["test"]["diffusion_vote"]
    seeds = entry.pop("seeds")
    assert (
        entry
        == seeds["0"]
        == {
            "auc": {"value": 0.5, "low": 0.4, "high": 0.6},
            "data": "PneumoniaMNIST",
            "seed": 0,
            "num_images": 624,
            "num_draws": 51,
            "network_evaluations": 102,
            "commit": "abc",
            "threshold": 0.4,
        }
    )


def test_merges_and_leaves_the_rest_alone(path):
    write(path)
    write(path, 0.7, model="diffusion_vote")
    written = write(path, 0.8, split="validation")
    assert written == read_results(path)
    found = {(s, m): e["auc"]["value"] for s in ("test", "validation") for m, e in written[s].items()}
    expected = {("test", "resnet18"): 0.5, ("test", "diffusion_vote"): 0.7, ("validation", "resnet18"): 0.8}
    assert found == expected
    assert written["about"]["schema"] == 1


def test_seeds_are_kept_and_summarised(path):
    write(path, 0.4, 10, extra={"threshold": 0.3, "resampled": "patients"}, network_evaluations=100)
    write(path, 0.9, 2, extra={"threshold": 0.3, "resampled": "patients"}, network_evaluations=100)
    entry = write(path, 0.6, 2, extra={"threshold": 0.5, "resampled": "patients"}, network_evaluations=50, commit="def")
    entry = entry["test"]["resnet18"]
    assert list(entry["seeds"]) == ["2", "10"]
    assert entry["auc"] == pytest.approx({"value": 0.5, "low": 0.4, "high": 0.6})
    assert (entry["seed"], entry["network_evaluations"], entry["commit"]) == ([2, 10], 75, "def")
    assert entry["resampled"] == "patients" and "threshold" not in entry
    assert entry["seeds"]["2"]["auc"]["value"] == 0.6


def test_a_given_summary_counts(path):
    write(path, 0.4)
    summary = {"auc": {"value": 0.5, "low": 0.49, "high": 0.51}}
    assert write(path, 0.6, 1, summary=summary)["test"]["resnet18"]["auc"] == summary["auc"]


@pytest.mark.parametrize("change", [{"data": "other"}, {"num_images": 3}, {"num_draws": 5}])
def test_seeds_measured_otherwise_are_dropped(path, change):
    write(path, 0.4)
    assert list(write(path, 0.6, 1, **change)["test"]["resnet18"]["seeds"]) == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": {}}, "metrics: expected at least one metric, got none"),
        ({"metrics": {"auc": 0.5}}, "metrics: expected value, low and high for 'auc', got 0.5"),
        ({"metrics": metrics(float("nan"))}, "metrics: expected finite numbers for 'auc'"),
        ({"metrics": {"seed": metrics(1)["auc"]}}, r"expected names that are not reserved, got \['seed'\]"),
        ({"extra": {"commit": "x"}}, r"expected names that are not reserved, got \['commit'\]"),
        ({"split": "about"}, "expected names that are not reserved, got about"),
        ({"summary": {"accuracy": metrics(1)["auc"]}}, r"summary: expected the metrics \['auc'\], got \['accuracy'\]"),
    ],
)
def test_bad_input_leaves_the_file_as_it_was(path, arguments, message):
    write(path)
    before = path.read_text()
    with pytest.raises(ValueError, match=message):
        write_results(
            path,
            **(
                {
                    "metrics": metrics(0.1),
                    "split": "test",
                    "model": "m",
                    "data": "d",
                    "seed": 0,
                    "num_images": 1,
                }
                | arguments
            ),
        )
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_stored_leaves_nothing_behind(path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write(path, extra={"object": object()})
    assert not path.exists() and not list(path.parent.parent.rglob("*.json*"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"about": 3}'])
def test_another_file_is_not_overwritten(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"path: expected a file of results, but .* is none"):
        write(path)
    assert path.read_text() == text


def test_another_schema_is_not_overwritten(path):
    path.parent.mkdir()
    path.write_text('{"about": {"schema": 2}}')
    with pytest.raises(ValueError, match="path: expected results of schema 1, got 2"):
        write(path)


def test_git_commit(tmp_path):
    assert git_commit(tmp_path / "absent") == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert git_commit(tmp_path) == "unknown"
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "log", "--format=%H"], check=True, capture_output=True, text=True).stdout.strip()
    assert git_commit(tmp_path) == head and len(head) >= 40


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(".") == "unknown"
