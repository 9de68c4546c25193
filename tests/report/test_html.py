"""The report is one sound file that needs nothing else."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.report import html, write_report

VOID = {"meta", "br", "img", "hr", "input", "link"}


class Checker(HTMLParser):
    """Collects what a page would fetch, and stops at badly nested elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def _note(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"badly nested <{tag}>"

    def handle_data(self, data):
        self.text += data


def read(path) -> tuple[str, Checker]:
    page, checker = path.read_text(encoding="utf-8"), Checker()
    checker.feed(page)
    assert checker.open == []
    return page, checker


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
    return read(write_report(tmp_path_factory.mktemp("page") / "new" / "report.html", data))


def test_nothing_is_fetched_and_nothing_runs(page):
    text, checker = page
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in checker.addresses)
    assert not {"script", "link", "iframe", "object", "embed"} & set(checker.tags)
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]{1})", text)) == {"#"}


def test_every_reference_has_its_one_target(page):
    text, checker = page
    references = {a[1:] for a in checker.addresses if a.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert references <= set(checker.ids)
    assert len(checker.ids) == len(set(checker.ids))


def test_images_inside_can_be_read(page):
    found = re.findall(r"data:image/png;base64,([^\"]+)", page[0])
    assert len(found) >= 12
    sizes = {Image.open(io.BytesIO(base64.b64decode(text))).size for text in found}
    assert sizes == {(128, 128)}


def test_content_is_complete(page, data):
    text, checker = page
    assert "Research software, not a medical device." in checker.text
    for heading in ("AUC", "Balanced accuracy", "Sensitivity", "Specificity", "Right and sure", "Most uncertain"):
        assert heading in checker.text
    assert text.count('<figure class="plot">') == 4
    assert "880, or 22 per image" in checker.text
    assert "made up" in checker.text
    table = html.metric_table(data)
    for rule in ("vote", "mean"):
        for metric in ("auc", "balanced_accuracy", "sensitivity", "specificity"):
            value, low, high = (table[rule][metric][k] for k in ("value", "low", "high"))
            assert f"{value:.3f}</span>" in text
            assert f"{low:.3f} to {high:.3f}" in checker.text


def test_text_is_escaped(page):
    assert "<title>Lesion &lt;or&gt; not &amp; why</title>" in page[0]
    assert "film &lt;" in page[0]


def test_colours_follow_the_page(page):
    text = page[0]
    plots = text[text.index('<figure class="plot">') :]
    assert "var(--ink)" in plots
    assert not re.findall(r"(?:fill|stroke): #", plots)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used <= set(re.findall(r"(--[\w-]+):", text))


def test_ranges_of_few_images_are_called_too_narrow(data, tmp_path):
    labels = np.asarray(data.labels)
    # An image of an unknown patient is alone, so that none is more.
    for kept, told, groups in ((9, True, None), (10, False, None), (10, False, [""] * 30), (9, True, [None] * 29)):
        rows = np.sort(np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:kept]]))
        some = replace(
            data, labels=labels[rows], errors=data.errors[torch.from_numpy(rows)], groups=groups, keys=None,
            images=None, error_maps=None, shown=None, probabilities=None,
        )  # fmt: skip
        text = read(write_report(tmp_path / f"{kept}.html", some))[1].text
        unit = "images" if groups is None else "patients"
        assert (f"With {kept} {unit} of {data.class_names[1]} the ranges are too narrow" in text) == told


def test_same_data_same_file(data, tmp_path):
    first, second = (write_report(tmp_path / name, data) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()


def test_three_classes_colour_images_and_little_else(three_classes, tmp_path):
    text, checker = read(write_report(tmp_path / "report.html", three_classes))
    assert "Average precision" in checker.text
    assert "Sensitivity" not in checker.text
    assert "true outline" not in checker.text
    assert "image 0" in checker.text or "image 1" in checker.text
    picture = Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", text)[0])))
    assert picture.mode == "RGB"


def test_failure_leaves_the_old_report_and_nothing_else(data, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(html.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, data)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_constant_images_are_drawn(data, tmp_path):
    flat = replace(data, images=np.zeros_like(data.images), error_maps=np.zeros_like(data.error_maps))
    read(write_report(tmp_path / "report.html", flat))
