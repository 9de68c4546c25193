# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One HTML file about a diffusion classifier: how good, how sure, where, and at what cost."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .._patients import known_patient
from ..classification import DenoisingClassification
from ..storage.atomic_file import replace_text
from .curves import classify, metric_table
from .data import ReportData
from .figures import CLASS_COLOURS, draws_figure, levels_figure, rejection_figure, roc_figure, to_svg
from .gallery import choose_images, make_cards
from .run_sections import LIMITS, data_section, plot, result_section, run_plots, sets_section, stopping_section
from .style import STYLE

__all__ = ["background_section", "document", "fact_list", "missing_list", "report_sections", "write_report"]

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]

_MOST_LISTED = 6  # classes whose numbers of images stand above everything
_FEW = 10  # images or patients of a class: of fewer, resampled ranges hold the truth too seldom
NOTICE = (
    "Research software, not a medical device. Nothing here may be used to diagnose or to treat anybody. "
    "The numbers hold for the images described below and for no others."
)


def write_report(path: str | os.PathLike[str], report: ReportData) -> Path:
    """Write the report: one file with everything inside, no scripts, nothing fetched.

    Args:
        path: where to; the folder is made if absent, an existing file is replaced once the new one is complete.
        report: what to report on.

    Returns:
        the path written.

    Raises:
        OSError: when the file cannot be written.

    Example:
        >>> import numpy as np, tempfile, torch
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> errors = DenoisingErrors(torch.rand(8, 2, 5), torch.arange(5), torch.linspace(5, -5, 5), num_elements=64)
        >>> report = ReportData(title="Noise", description="Random errors.", images=np.random.rand(8, 1, 8, 8),
        ...                     labels=np.arange(8) % 2, class_names=["no", "yes"], errors=errors, seconds=1.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(folder + "/report.html", report).read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    target = Path(path)
    replace_text(target, _page(report))
    return target


def _page(data: ReportData) -> str:
    run = data.run
    body = f"""{"" if run is None else missing_list(run.missing)}
{report_sections(data, metric_table(data))}
{"" if run is None else data_section(run)}
{background_section(_background(data), of_run=run is not None)}"""
    return document(data.title, data.description, fact_list(_facts(data)), body)


def document(title: str, description: str, facts: str, body: str) -> str:
    """A whole page: heading, notice, facts, and the sections of its body."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(description)}</p>
<p class="notice">{NOTICE}</p>
{facts}
</header>
{body}
</main>
</body>
</html>
"""


def report_sections(data: ReportData, metrics: Metrics) -> str:
    """The sections about the classes: results, tables, pictures and figures; metrics as `metric_table` gives them."""
    result = classify(data.errors, next(iter(data.rules)), data.weighting)
    return f"""{_tiles(data, metrics)}
{"" if data.run is None else result_section(data, metrics)}
{_gallery(data, result)}
{_plots(data)}"""


def _facts(data: ReportData) -> dict[str, str]:
    """What stands above everything: name -> value, as HTML."""
    counts = np.bincount(data.labels, minlength=len(data.class_names)).tolist()
    facts = {
        "Images": f"{len(data.labels):,}",
        "Of these": ", ".join(f"{n:,} {escape(name)}" for n, name in zip(counts, data.class_names, strict=True)),
        "Noise draws per image": f"{data.errors.num_draws}",
    }
    if data.groups is not None and data.run is not None and all(map(known_patient, data.groups)):
        facts["Patients"] = f"{len(np.unique(data.units)):,}"
    if data.seconds is not None:
        facts["Images per second"] = f"{len(data.labels) / data.seconds:.3g}"
    if len(data.class_names) > _MOST_LISTED:
        facts["Of these"] = f"{len(data.class_names)} classes, {_range(counts)} images each"
    return facts


def fact_list(facts: Mapping[str, str]) -> str:
    """Facts side by side: name -> value, as HTML."""
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _range(counts: list[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def missing_list(missing: Iterable[str]) -> str:
    """What the report does without."""
    items = "".join(f"<li>{escape(text)}</li>" for text in missing)
    return f'<ul class="missing">{items}</ul>' if items else ""


def _metric_names(data: ReportData) -> dict[str, tuple[str, str]]:
    """The metrics shown: {key: (name, in plain words)}."""
    balanced = "the same for every class, then averaged: a rare class counts as much as a frequent one"
    if data.errors.num_classes == 2:
        clear, found = (escape(name) for name in data.class_names)
        return {
            "auc": ("AUC", f"how often a {found} image ranks above a {clear} one; 0.5 is chance, 1 perfect"),
            "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity; 0.5 is chance"),
            "sensitivity": ("Sensitivity", f"share of the {found} images that were called {found}"),
            "specificity": ("Specificity", f"share of the {clear} images that were called {clear}"),
        }
    return {
        "auc": ("AUC", "how often an image of a class ranks above one of another class, mean over classes"),
        "average_precision": ("Average precision", "precision over all recalls, mean over classes"),
        "accuracy": ("Accuracy", "share of the images called correctly"),
        "balanced_accuracy": ("Balanced accuracy", balanced),
    }


def _tiles(data: ReportData, table: Metrics) -> str:
    unit = "images" if data.groups is None else "patients"
    tiles = []
    for key, (name, words) in _metric_names(data).items():
        rules = "".join(_rule(label, **table[rule][key]) for rule, label in data.rules.items())
        tiles.append(f'<div class="tile"><h3>{name}</h3><p>{words}</p>{rules}</div>')
    return f"""<section>
<h2>How good is it?</h2>
<p>Two ways to decide from the same errors. <b>Majority vote</b>: every noise draw votes for the class under which the
noise was predicted best. <b>Mean error</b>: the class with the smallest error over all draws. Below each value is the
range in which it lies with 95 % confidence, had other {unit} of the same kind been tested.{_few(data, unit)}</p>
<div class="tiles">{"".join(tiles)}</div>
</section>"""


def _few(data: ReportData, unit: str) -> str:
    """That the ranges are too narrow, where a class has so few images or patients that resampling them says little."""
    counts = [len(np.unique(data.units[data.labels == k])) for k in range(len(data.class_names))]
    fewest = int(np.argmin(counts))
    if counts[fewest] >= _FEW:
        return ""
    return (
        f" <b>With {counts[fewest]} {unit} of {escape(data.class_names[fewest])} the ranges are too narrow</b>: they "
        f"are made by drawing from these {unit} again, and need about {_FEW} of each class."
    )


def _rule(name: str, value: float, low: float, high: float) -> str:
    """One rule's value, and its interval as a line from 0 to 1."""
    return (
        f'<div class="rule"><span class="name">{name}</span><span class="value">{value:.3f}</span>'
        f'<span class="whisker"><span style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></span>'
        f'<i style="left:{100 * value:.1f}%"></i></span><span class="range">{low:.3f} to {high:.3f}</span></div>'
    )


def _gallery(data: ReportData, result: DenoisingClassification) -> str:
    chosen = choose_images(data.labels, result)
    cards = make_cards(data, result, chosen)
    errors = int((result.predicted.numpy() != data.labels).sum())
    by = "vote" if "vote" in data.rules else "mean error"
    headings = {
        "sure": ("Right and sure", "Right, and of these the images on which the draws agree most."),
        "uncertain": ("Most uncertain", "The votes split: images a person should read."),
        "wrong": ("Wrong, the surest first", f"{errors:,} of {len(data.labels):,} images were called wrongly by {by}."),
    }
    kind = "cards" if data.error_maps is not None else "cards single"
    groups = "".join(
        f'<h3>{title}</h3><p class="muted">{words}</p><div class="{kind}">{cards[name]}</div>'
        for name, (title, words) in headings.items()
    )
    return f"<section><h2>What does it see?</h2>{_gallery_words(data)}{groups}</section>"


def _gallery_words(data: ReportData) -> str:
    words = "The bar shows how the draws voted. Uncertainty is 0 % when all agree and 100 % when they split evenly."
    if data.images is None:
        words += " <b>The images were not at hand when this report was made</b>, so that it shows their names alone."
    if data.error_maps is not None:
        names = "the class called, or for its rival, each in its colour"
        if len(data.class_names) <= _MOST_LISTED:
            names = " or ".join(f'<b class="c{k}">{escape(name)}</b>' for k, name in enumerate(data.class_names))
        words += (
            " Left is the image; right, the same image coloured where the model, taking it for one class, removed the "
            f"noise better than taking it for the other: the place speaks for {names}. The stronger the colour, the "
            "larger the difference, on one scale for all; the maps are smoothed."
        )
    if data.masks is not None:
        words += " The yellow line is the true outline of the finding, which the model never saw."
    return f"<p>{words}</p>"


def _plots(data: ReportData) -> str:
    """The figures, each with a title and what it says in plain words."""
    each = "" if len(data.class_names) == 2 else f" Each class against all others, by {next(iter(data.rules))}."
    if len(data.class_names) > len(CLASS_COLOURS):
        each += " The classes told worst have colours."
    plots = [
        _plot(
            data,
            "Found against falsely called",
            roc_figure(data),
            "The ROC curve: what each further image found costs in false alarms. The closer to the upper left corner, "
            f"the better; the diagonal is chance.{each}",
        ),
        _plot(
            data,
            "How many draws are enough",
            draws_figure(data),
            "The result, had only the first draws been made. Where the curves are flat, more draws cost time and "
            "change nothing.",
        ),
        _plot(
            data,
            "Which noise tells the classes apart",
            levels_figure(data),
            "Each dot ranks the images by one noise draw alone. With little noise the image speaks for itself under "
            "any class; with much noise nothing of it is left. The dotted line is chance.",
        ),
        _plot(
            data,
            "Does it know when it does not know",
            rejection_figure(data),
            "Accuracy of the images that remain when those with the most divided votes are set aside. A line that "
            "rises means that divided votes point to errors.",
        ),
    ]
    plots += [] if data.run is None else run_plots(data)
    enough = "" if data.run is None else stopping_section(data) + sets_section(data)
    return f'<section><h2>What lies behind the numbers?</h2><div class="plots">{"".join(plots)}</div>{enough}</section>'


def _plot(data: ReportData, title: str, figure: Figure, words: str) -> str:
    return plot(title, to_svg(figure, title, data.anchor), words)


def _background(data: ReportData) -> dict[str, str]:
    """Cost, data and model, name -> value."""
    evaluations = int(data.errors.network_evaluations.sum())
    rows = {
        "Network evaluations": f"{evaluations:,}, or {evaluations / len(data.labels):,.0f} per image",
        "Time": "" if data.seconds is None else _time(data, evaluations, data.seconds),
        "Weighting of the mean error": data.weighting if isinstance(data.weighting, str) else "learned",
        "Images": data.data_note,
        "Model": data.model_note,
    }
    return rows | ({} if data.run is None else dict(data.run.settings))


def background_section(rows: Mapping[str, str], *, of_run: bool) -> str:
    """How a report was made, as a table; of a run with its limits."""
    limits = "".join(f"<li>{escape(text)}</li>" for text in LIMITS) if of_run else ""
    cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items() if value)
    return f"""<section>
<h2>How was it made?</h2>
<p>The model is a diffusion model: it learned to remove noise from images when told their class. To classify an image,
noise is added to it, and the model removes the noise once as each class. The better an image fits a class, the smaller
the error. Within a draw, all classes face the same noise.</p>
<table>{cells}</table>
{f"<h3>Limits</h3><ul>{limits}</ul><p>{NOTICE}</p>" if limits else ""}
</section>"""


def _time(data: ReportData, evaluations: int, seconds: float) -> str:
    return (
        f"{seconds:,.1f} s on {data.device}, {len(data.labels) / seconds:.3g} images or {evaluations / seconds:,.0f} "
        "evaluations per second"
    )
