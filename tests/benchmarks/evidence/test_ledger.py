"""The ledger of test openings and the protocol's hash."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence import data as evidence_data
from benchmarks.evidence.data import load_test
from benchmarks.evidence.ledger import LEDGER, open_test, read_ledger
from benchmarks.evidence.protocol import ROOT, committed, content_hash, protocol, protocol_hash

FILES = ("docs/protocol.md", "benchmarks/evidence/protocol.json")


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with the protocol committed."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "protocol")
    return tmp_path


def opened(project: Path, *, method: str = "linear_probe", settings: object = None, **more: str):
    return open_test("busi_64", method, 0, settings or {"C": 1}, ledger=project / "openings.json", root=project, **more)


def test_hash_is_that_of_the_content_alone() -> None:
    assert content_hash({"a": [1, 2], "b": "x"}) == content_hash({"b": "x", "a": [1, 2]})
    assert content_hash({"a": [1, 2]}) != content_hash({"a": [2, 1]})
    # SHA-256 of the canonical text, as anyone can compute it.
    assert content_hash({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_opening_is_on_disk_before_it_is_given(project: Path) -> None:
    opening = opened(project)
    assert read_ledger(project / "openings.json") == [opening.line()]
    assert opening.protocol == protocol_hash()
    assert (opening.number, opening.looks, opening.repeat) == (1, 1, False)


def test_second_look_is_marked_whatever_the_settings(project: Path) -> None:
    opened(project)
    other_method = opened(project, method="shrunken_lda")
    other_condition = opened(project, condition="shortcut")
    again = opened(project, settings={"C": 2})
    assert not other_method.repeat
    assert not other_condition.repeat
    assert (again.number, again.looks, again.repeat) == (4, 2, True)
    assert [line["repeat"] for line in read_ledger(project / "openings.json")] == [False, False, False, True]


@pytest.mark.parametrize("name", FILES)
def test_edited_protocol_is_refused(project: Path, name: str) -> None:
    (project / name).write_text((project / name).read_text() + "\n")
    with pytest.raises(ValueError, match=f"{name}: expected it as in commit"):
        opened(project)
    assert not (project / "openings.json").exists()


def test_uncommitted_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected to find it in a commit"):
        committed(tmp_path)


@pytest.mark.parametrize(("data", "method"), [("nowhere", "linear_probe"), ("busi_64", "nothing")])
def test_names_out_of_the_protocol_are_refused(project: Path, data: str, method: str) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        open_test(data, method, 0, {}, ledger=project / "openings.json", root=project)


def test_test_images_come_only_by_an_opening_of_the_ledger(project: Path) -> None:
    with pytest.raises(TypeError, match="expected an Opening"):
        load_test("busi_64")  # type: ignore[arg-type]
    opening = opened(project)
    with pytest.raises(ValueError, match="expected line 1"):
        load_test(replace(opening, seed=1))
    with pytest.raises(ValueError, match="expected line 2"):
        load_test(replace(opening, number=2))


def test_no_other_program_reads_the_tables_of_labels() -> None:
    """What would get at test images without the ledger: the table of labels, or the archive, read elsewhere."""
    folder = Path(evidence_data.__file__).parent
    readers = [
        file.name
        for file in folder.rglob("*.py")
        if any(word in file.read_text() for word in ("labels.csv", "load_pneumonia_mnist(", "pneumoniamnist.npz"))
    ]
    assert readers == ["data.py"]


def test_committed_ledger_counts_its_repeats_and_knows_its_protocol() -> None:
    lines = read_ledger(LEDGER)
    for line in lines:
        same = [other for other in lines[: line["number"]] if _place(other) == _place(line)]
        assert line["looks"] == len(same)
        assert line["repeat"] == (len(same) > 1)
        assert len(line["protocol"]) == 64


def _place(line: dict[str, object]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("data", "split", "method", "seed", "condition"))


def test_protocol_says_in_words_what_it_says_in_numbers() -> None:
    text, content = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8"), protocol()
    for name in [*content["data"], *content["methods"]]:
        assert f"`{name}`" in text, name
    for row in content["margins"]:
        start = "| " + " | ".join(f"`{row[name]}`" for name in ("data", "method", "reference"))
        line = next(line for line in text.splitlines() if line.startswith(start))
        assert f"not inferior, {row['margin']}" in line
    for data, figures in content["figures"].items():
        for method, figure in figures.items():
            for value in figure.values():
                assert any(
                    f"`{data}` | `{method}`" in line and f"at least {value:.2f}" in line for line in text.splitlines()
                )
    assert len(content["comparisons"]["list"]) == 11


def test_ledger_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "openings.json").write_text(json.dumps([{"number": 1}]))
    with pytest.raises(ValueError, match="expected line 1 to have the number and the fields"):
        read_ledger(tmp_path / "openings.json")


@pytest.mark.parametrize("name", ["pneumoniamnist_28", "kermany_cxr_64", "isic2017_64", "busi_64"])
def test_parts_share_no_group_and_have_the_protocols_sizes(name: str, dataset) -> None:
    root = dataset(protocol()["data"][name]["folder"]).parent
    sizes = {}
    for step in ("development", "final"):
        train, validation = evidence_data.load(name, step, root)
        assert not set(train.groups) & set(validation.groups)
        assert len(set(train.keys) | set(validation.keys)) == len(train) + len(validation)
        sizes[step] = (len(train), len(validation))
    expected = {"pneumoniamnist_28": (4279, 429), "kermany_cxr_64": (4708, 299), "isic2017_64": (2000, 150)}
    assert sizes["final"] == expected.get(name, (546, 78))
    if name.startswith(("isic", "busi")):
        assert sum(sizes["development"]) == sum(sizes["final"])
        assert 0.15 < (sizes["development"][1] - sizes["final"][1]) / sizes["final"][0] < 0.25
    else:
        assert sizes["development"] == sizes["final"]


def test_folds_hold_every_image_once_and_groups_whole(dataset, project: Path) -> None:
    root = dataset("busi_256").parent
    tested: list[str] = []
    for fold in range(5):
        train, validation = evidence_data.load("busi_64", f"fold{fold}", root)
        test = load_test(opened(project, split=f"fold{fold}"), root)
        assert not (set(train.groups) | set(validation.groups)) & set(test.groups)
        assert len(train) + len(validation) + len(test) == 780
        tested += test.keys.tolist()
    assert len(tested) == len(set(tested)) == 780
    np.testing.assert_array_less(100, len(test))
