"""The page: one file, everything inside, and what its scripts do with the cases."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.report import Case, CounterfactualPair, write_case_report

CLASSES = ["clear", "lesion <b>"]
SCRIPTS = ("case_list.js", "case_view.js", "case_votes.js", "case_page.js")


def make_case(number: int, *, size: int = 16, num_draws: int = 21) -> Case:
    """A case with everything."""
    rng = np.random.default_rng(number)
    image = rng.uniform(-1, 1, (1, size, size))
    values = torch.as_tensor(0.3 + 0.02 * rng.standard_normal((1, 2, num_draws)), dtype=torch.float32)
    errors = DenoisingErrors(values, torch.arange(num_draws), torch.linspace(6, -6, num_draws))
    result = classify_errors(errors)
    return Case(
        key=f"film {number} </script>",
        image=image,
        probabilities=result.probabilities[0].double().numpy(),
        uncalibrated=np.array([0.5, 0.5]),
        vote_share=result.vote_share[0].numpy(),
        uncertainty={name: float(value) for name, value in result.uncertainty.items()} | {"own_number": 0.5},
        errors=errors,
        label=number % 2,
        decision_map=rng.normal(size=(size, size)),
        counterfactual=CounterfactualPair(factual=image, counterfactual=-image, target=1, flipped=True, drift=0.1),
        prediction_set=[0, 1],
        ood_score=1.0,
        ood_p_value=0.004 if number else 0.5,
        network_evaluations=42,
        decided=True,
    )


class Page(HTMLParser):
    """Scripts by id, addresses, the policy, and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts, self.addresses, self.policy, self.text = {}, [], "", ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action") and value]
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag == "script":
            self._open = [given.get("id", "page")]
        elif tag == "style":
            self._open = ["style"]

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._open = []

    def handle_data(self, data):
        if self._open:
            self.scripts[self._open[0]] = self.scripts.get(self._open[0], "") + data
        else:
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    path = tmp_path_factory.mktemp("page") / "new" / "cases.html"
    made = (make_case(number) for number in range(4))
    notes = {"Model <i>": "tiny & small"}
    assert (
        write_case_report(path, made, title="Films <1>", classes=CLASSES, description="Made up.", notes=notes) == path
    )
    assert [file.name for file in path.parent.iterdir()] == ["cases.html"]
    return Page(path.read_text(encoding="utf-8"))


def test_everything_is_inside(page):
    assert page.addresses == []
    assert "default-src 'none'" in page.policy
    assert "http" not in page.scripts["page"].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"url\(|@import", page.scripts["style"])
    for word in ("fetch(", "XMLHttpRequest", "eval(", "innerHTML", "localStorage"):
        assert word not in page.scripts["page"]


def test_it_says_what_it_is_not(page):
    assert "not a medical device" in page.text
    for words in ("Films <1>", "Made up.", "Model <i>", "tiny & small", "2 clear, 2 lesion <b>", "3 of 4"):
        assert words in page.text


def test_overview_and_cases_agree(page):
    about = json.loads(page.scripts["about"])
    assert [row["key"] for row in about["cases"]] == [f"film {number} </script>" for number in range(4)]
    assert about["classes"] == CLASSES
    assert about["orderBy"] == "vote_entropy"
    assert {m["name"]: m["surer"] for m in about["uncertainties"]}["vote_margin"] is True
    assert [m["title"] for m in about["uncertainties"]][-2:] == ["Own number", "1 - probability"]
    limits = []
    for number, row in enumerate(about["cases"]):
        content, case = json.loads(page.scripts[f"case-{number}"]), make_case(number)
        np.testing.assert_allclose(content["probabilities"], case.probabilities, rtol=1e-5)
        assert content["probabilities"][row["predicted"]] == row["probability"]
        assert row["uncertainty"] == pytest.approx(dict(case.uncertainty), rel=1e-5)
        assert len(content["draws"]["winner"]) == 21
        limits.append(content["mapLimit"])
    assert about["mapLimit"] == pytest.approx(np.quantile(limits, 0.95), rel=1e-5)


def test_every_part_is_optional(tmp_path):
    bare = Case(key="a", image=np.zeros((3, 4, 4)), probabilities=np.array([0.2, 0.8]))
    path = write_case_report(tmp_path / "a.html", [bare], title="t", classes=["x", "y"], order_by="vote_entropy")
    about = json.loads(Page(path.read_text(encoding="utf-8")).scripts["about"])
    assert (about["orderBy"], about["mapLimit"]) == ("probability", None)


def test_what_cannot_be_shown_is_refused(tmp_path):
    path = tmp_path / "cases.html"
    path.write_text("the old one")
    for cases, classes, message in [
        ([], CLASSES, "cases: expected at least one case, got none"),
        ([make_case(0), make_case(0)], CLASSES, "cases: expected another key for every case, got 'film 0 .* more than"),
        ([make_case(0)], ["one"], "classes: expected 2 names, as many as case 'film 0 .*' has probabilities; got 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_case_report(path, cases, title="t", classes=classes)
    assert path.read_text() == "the old one"


def test_size_and_time_grow_with_the_cases_only(tmp_path):
    base = make_case(0, size=64, num_draws=51)
    start = time.perf_counter()
    cases = (replace(base, key=str(number)) for number in range(60))
    path = write_case_report(tmp_path / "many.html", cases, title="t", classes=CLASSES)
    seconds = time.perf_counter() - start
    html = path.read_text(encoding="utf-8")
    about = json.loads(Page(html).scripts["about"])
    assert len(html) / 60 < 60_000, "noise of 64 x 64 does not compress: five pictures and a thumbnail"
    assert len(json.dumps(about)) / 60 < 6_000, "what is read at the start is a line and a thumbnail a case"
    assert seconds < 15


# The scripts

node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's scripts")


def run_script(*names: str, code: str):
    """The JSON that code prints after the scripts, as on the page."""
    parts = [resources.files("monai_diffclf.report").joinpath(name).read_text(encoding="utf-8") for name in names]
    text = '"use strict";\n' + "\n".join(parts) + f"\nconsole.log(JSON.stringify((() => {{ {code} }})()));"
    done = subprocess.run(["node", "-"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ROWS = """
const row = (key, predicted, label, probability, entropy, margin, set, ood) =>
  ({ key, predicted, label, probability, uncertainty: { vote_entropy: entropy, margin }, set, ood });
const rows = [
  row("film 10", 0, 0, 0.9, 0.1, 0.8, [0], 0.5), row("film 9", 1, 0, 0.6, 0.6, 0.1, [0, 1], 0.001),
  row("other 1", 1, null, 0.7, 0.5, 0.3, null, null), row("film 2", 0, 1, 0.8, 0.3, 0.6, [], 0.004)];
const entropy = { name: "vote_entropy", surer: false }, margin = { name: "margin", surer: true };
const probability = { name: "probability", surer: false };
const keys = (list) => list.map((row) => row.key);
"""


@node
def test_the_scripts_parse(page):
    done = subprocess.run(["node", "--check", "-"], input=page.scripts["page"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@node
@pytest.mark.parametrize(
    ("column", "descending", "expected"),
    [
        ("key", False, ["film 2", "film 9", "film 10", "other 1"]),
        ("uncertainty", True, ["film 9", "other 1", "film 2", "film 10"]),
        ("probability", False, ["film 9", "other 1", "film 2", "film 10"]),
        ("label", True, ["film 2", "film 10", "film 9", "other 1"]),
        ("set", True, ["film 9", "film 10", "film 2", "other 1"]),
        ("ood", False, ["film 9", "film 2", "film 10", "other 1"]),
        ("verdict", True, ["film 9", "film 2", "film 10", "other 1"]),
    ],
)
def test_sorting(column, descending, expected):
    code = ROWS + f"return keys(sortRows(rows, '{column}', {json.dumps(descending)}, entropy));"
    assert run_script("case_list.js", code=code) == expected


@node
@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, 4),
        ({"text": "FILM"}, 3),
        ({"predicted": "1"}, 2),
        ({"label": "0"}, 2),
        ({"verdict": "wrong"}, 2),
        ({"verdict": "right"}, 1),
        ({"set": "one"}, 1),
        ({"set": "other"}, 2),
        ({"ood": "yes"}, 2),
        ({"ood": "yes", "predicted": "0"}, 1),
    ],
)
def test_filters(wish, expected):
    assert run_script("case_list.js", code=ROWS + f"return filterRows(rows, {json.dumps(wish)}).length;") == expected


@node
def test_neighbours_and_ranks():
    code = (
        ROWS
        + """
    const of = (measure) => { const found = neighbours(rows, rows[3], measure, 1);
      return [keys(found.surer), keys(found.lessSure), surerShare(rows, rows[3], measure)]; };
    const alone = rows.slice(0, 1);
    return [of(entropy), of(margin), of(probability),
      neighbours(alone, alone[0], entropy, 3), surerShare(alone, alone[0], entropy)];"""
    )
    by_entropy, by_margin, by_probability, alone, no_share = run_script("case_list.js", code=code)
    assert by_entropy == by_margin == by_probability == [["film 10"], ["other 1"], pytest.approx(1 / 3)]
    assert (alone, no_share) == ({"surer": [], "lessSure": []}, None)


@node
def test_keys_survive_the_address():
    key = 'a/b #1?&=100 % "ü" </script>'
    code = f"const key = {json.dumps(key)}; return [keyOfHash(hashOfKey(key)), keyOfHash('#'), keyOfHash('#case=50%')];"
    assert run_script("case_list.js", code=code) == [key, None, "50%"]


@node
def test_numbers_are_readable():
    values = [0, 0.123456, 12.3456, 1234.5, 0.0000123, -1234567, None]
    code = f"return {json.dumps(values)}.map(number).concat(percent(0.1234, 1));"
    assert run_script("case_list.js", code=code) == [
        "0", "0.123", "12.3", "1235", "1.2e-5", "-1.2e+6", "\u2013", "12.3 %",
    ]  # fmt: skip


@node
def test_ticks_are_round_and_within():
    code = "return [ticks(-9.8, 9.8), ticks(0, 1), ticks(3, 3)];"
    wide, unit, point = run_script("case_list.js", "case_votes.js", code=code)
    assert wide == [-5, 0, 5]
    assert unit == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert point == [3]


def test_the_scripts_are_installed_with_the_package():
    for name in (*SCRIPTS, "case_page.css"):
        assert resources.files("monai_diffclf.report").joinpath(name).is_file()
