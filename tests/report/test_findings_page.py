"""A report of several findings says of each what its evaluation says, and of all what is of all."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from monai_diffclf.handlers import read_results
from monai_diffclf.report.findings_gallery import choose_of_findings, findings_gallery
from monai_diffclf.report.findings_page import write_findings_report
from monai_diffclf.report.findings_tables import mean_auc
from monai_diffclf.report.run_folder import read_findings, read_run
from monai_diffclf.report.run_report import report_of_run
from tests.report.run_folders import make_findings_run, make_run
from tests.report.test_html import read

FINDINGS = ["nodule", "a, <b>band</b>", "mass"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_findings_run(tmp_path_factory.mktemp("findings") / "run", FINDINGS)


@pytest.fixture(scope="module")
def pages(run):
    return {name: report_of_run(found, temperature=0.3) for name, found in read_findings(run).items()}


def write(tmp_path, pages, **changes):
    settings = {"title": "Three findings", "description": "Noise.", **changes}
    return read(write_findings_report(tmp_path / "report.html", pages, **settings))


def test_a_row_a_finding_with_the_numbers_of_the_evaluation(run, pages, tmp_path):
    text, checker = write(tmp_path, pages)
    table = text[text.index("numbers findings") : text.index("</table>", text.index("numbers findings"))]
    rows = table.split("<tr>")[2:]
    results = read_results(run / "results.json")["test"]
    for number, (name, row) in enumerate(zip(FINDINGS, rows, strict=False)):
        entry = results[f"diffusion_mean, {name}"]
        cells = [re.sub("<[^>]*>", " ", cell).split() for cell in row.split("<td>")[1:]]
        assert [int(cell[0]) for cell in cells[:3]] == [18, 18, 6]
        for cell, metric in zip(cells[3:6], ("auc", "sensitivity", "specificity"), strict=True):
            assert cell[0] == f"{entry[metric]['value']:.3f}"
        assert len(cells[7]) == 3 and cells[7][1] == "→"  # calibrated
        assert cells[8][0].replace(".", "").isdigit() and float(cells[8][0]) >= 80  # sets of these very images
        assert f'href="#finding-{number}-part"' in row and f'id="finding-{number}-part"' in text
    assert len(rows) == len(FINDINGS) + 1
    assert "<b>band</b>" not in text and "no a, <b>band</b>" in checker.text
    assert "Logistic regression on 16 x 16 pixels" in checker.text


def test_ids_are_unique_and_nothing_is_fetched(pages, tmp_path):
    text, checker = write(tmp_path, with_pictures(pages))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"', text))
    assert used <= set(ids)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in checker.addresses)
    assert not {"script", "link", "iframe"} & set(checker.tags)


def with_pictures(pages):
    """The pages with pictures and maps of what they show, as the command adds them."""
    chosen, rng = choose_of_findings(pages), np.random.default_rng(0)
    images = rng.uniform(-1, 1, (len(chosen), 1, 8, 8))
    made = {}
    for name, page in pages.items():
        own = [i for i, key in enumerate(chosen) if key in page.keys]
        maps = rng.uniform(size=(len(own), 2, 8, 8))
        shown = [page.keys.index(chosen[i]) for i in own]
        made[name] = replace(page, images=images[own], shown=shown, error_maps=maps)
    return made


def test_an_image_a_row_and_a_finding_a_column(pages):
    shown = with_pictures(pages)
    text = findings_gallery(shown, "mean")
    rows = text.split("<tr>")[2:]
    assert 3 <= len(rows) <= 8
    for row in rows:
        key = re.search(r"film \d+\.png", row).group()
        cells = row.split("<td>")[2:]
        assert len(cells) == len(FINDINGS)
        for (name, page), cell in zip(shown.items(), cells, strict=True):
            if key not in page.keys:
                assert cell.startswith("not known")
                continue
            place = page.keys.index(key)
            assert f"{100 * page.probabilities['mean'][place, 1]:.0f} %" in cell, name
            assert f"is {('absent', 'present')[page.labels[place]]}," in cell
    assert findings_gallery(pages, "mean") == ""


def test_the_mean_auc_is_that_of_the_findings_with_its_interval(pages):
    areas = [roc_auc_score(page.labels, page.probabilities["mean"][:, 1]) for page in pages.values()]
    found = mean_auc(list(pages.values()), "mean", 200)
    assert found.value == pytest.approx(np.mean(areas))
    assert found.low < found.value < found.high
    one = next(iter(pages.values()))
    alone = mean_auc([one], "mean", 200)
    assert mean_auc([one, one], "mean", 200) == pytest.approx(alone)  # a resample draws an image with all findings
    singly = mean_auc([replace(one, groups=None)], "mean", 200)
    for unknown in ("", None):  # an image of an unknown patient is drawn by itself, as by its key
        assert mean_auc([replace(one, groups=[unknown] * len(one.labels))], "mean", 200) == singly != alone


def test_what_does_not_fit_is_refused(pages, tmp_path):
    first = next(iter(pages.values()))
    for findings, settings, said in (
        ({}, {}, "findings: expected the report of at least one finding, got none"),
        (pages, {"rule": "weighted_vote"}, r"rule: expected one of \['vote', 'mean'\], by which 'nodule' was decided"),
    ):
        with pytest.raises(ValueError, match=said):
            write(tmp_path, findings, **settings)
    three = report_of_run(read_run(make_run(tmp_path / "run", ["a", "b", "c"])))
    with pytest.raises(ValueError, match="findings: expected two classes of 'mass', absent and present, got"):
        write(tmp_path, {"nodule": first, "mass": three})
    assert not (tmp_path / "report.html").exists()


def test_a_run_without_results_names_the_command(tmp_path):
    (tmp_path / "evaluation" / "finding_0").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no results on test images that name their findings; type this"):
        read_findings(tmp_path, command="type this")
