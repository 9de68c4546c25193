# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One HTML file with a page for every case: class, probabilities, uncertainty, error map and counterfactual."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .._class_names import class_names
from ..classification import SURE_WHEN_LARGE
from ..storage.atomic_file import replace_text
from .case import UNCERTAINTIES, Case, UncertaintyName, choose_measure
from .case_record import BRIGHTER, DARKER, CaseRecord, encode_case, to_json
from .html import NOTICE
from .style import STYLE

__all__ = ["write_case_records", "write_case_report"]

# Nothing is fetched and nothing can be sent, whatever an image is called.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"
_SCRIPTS = ("case_list.js", "case_view.js", "case_volume.js", "case_votes.js", "case_page.js")


def write_case_report(
    path: str | os.PathLike[str],
    cases: Iterable[Case],
    *,
    title: str,
    classes: Sequence[str],
    description: str = "",
    notes: Mapping[str, str] | None = None,
    order_by: str | None = None,
) -> Path:
    """Write a report with a page for every case: one file with everything inside, nothing fetched, fit for hundreds.

    An overview lists the cases; it can be sorted and filtered. A case has the address ``#case=KEY``, and its own data
    are read only when it is opened. Cases are taken one by one, so an iterable that makes them needs little memory.

    Args:
        path: where to; the folder is made if absent, an existing file is replaced once the new one is complete.
        cases: what to show, in the order of the overview; keys must differ.
        title: heading of the report.
        classes: names of the classes [K].
        description: what was done, in a sentence or two.
        notes: further facts for the reader, name to value: the model, the images, how it was calibrated.
        order_by: the uncertainty that cases are ordered by first: a name in ``Case.uncertainty``, or
            ``"probability"`` for 1 - probability; None for the entropy of the votes, or without votes of the
            probabilities.

    Returns:
        the path written.

    Raises:
        ValueError: when there are no cases, two have one key, or the number of classes differs.
        OSError: when the file cannot be written.

    Example:
        >>> import tempfile
        >>> case = Case(key="film 1", image=np.zeros((1, 8, 8)), probabilities=np.array([0.2, 0.8]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_case_report(folder + "/cases.html", [case], title="One film", classes=["no", "yes"])
        ...     path.read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    records = (encode_case(_checked(case, classes)) for case in cases)
    return write_case_records(
        path, records, title=title, classes=classes, description=description, notes=notes, order_by=order_by
    )


def write_case_records(
    path: str | os.PathLike[str],
    records: Iterable[CaseRecord],
    *,
    title: str,
    classes: Sequence[str],
    description: str = "",
    notes: Mapping[str, str] | None = None,
    order_by: str | None = None,
) -> Path:
    """Write the report from cases that were encoded before, see :func:`write_case_report`."""
    kept = list(records)
    if not kept:
        raise ValueError("cases: expected at least one case, got none")
    repeated = [key for key, count in Counter(record.key for record in kept).items() if count > 1]
    if repeated:
        raise ValueError(
            f"cases: expected another key for every case, got {repeated[0]!r} more than once; number such keys"
        )
    target = Path(path)
    replace_text(target, _page(kept, title, class_names(classes), description, dict(notes or {}), order_by))
    return target


def _checked(case: Case, classes: Sequence[str]) -> Case:
    if case.num_classes != len(classes):
        raise ValueError(
            f"classes: expected {case.num_classes} names, as many as case {case.key!r} has probabilities; "
            f"got {len(classes)}"
        )
    return case


def _page(
    records: list[CaseRecord],
    title: str,
    classes: list[str],
    description: str,
    notes: dict[str, str],
    order_by: str | None,
) -> str:
    names = [*dict.fromkeys(name for record in records for name in record.row["uncertainty"]), "probability"]
    measure = choose_measure(order_by, names)
    about = {
        "title": title,
        "classes": classes,
        "findings": _findings(records),
        "uncertainties": [_named(name) for name in names],
        "orderBy": measure if measure in names else "probability",
        "mapLimit": _common_limit(records),
        "colours": {"brighter": BRIGHTER, "darker": DARKER},
        "cases": [record.row for record in records],
    }
    contents = "\n".join(
        f'<script type="application/json" id="case-{i}">{record.content}</script>' for i, record in enumerate(records)
    )
    scripts = "\n".join(_asset(name) for name in _SCRIPTS)
    lead = f'<p class="lead">{escape(description)}</p>' if description else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}{_asset("case_page.css")}</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
{lead}
<p class="notice">{NOTICE}</p>
</header>
<noscript><p>The cases are shown by a script inside this file; allow it to run.</p></noscript>
<div id="overview">
{_facts(records, classes)}
{_notes(notes)}
<section id="images"></section>
<section id="list"></section>
</div>
<article id="case" hidden></article>
</main>
<script type="application/json" id="about">{to_json(about)}</script>
{contents}
<script>
(() => {{
"use strict";
{scripts}
}})();
</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    """The text of one of the page's own files."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8").strip() + "\n"


def _named(name: str) -> dict[str, Any]:
    known = UNCERTAINTIES.get(name, UncertaintyName(name.replace("_", " ").capitalize()))
    return {"name": name, "title": known.title, "words": known.words, "surer": name in SURE_WHEN_LARGE}


def _common_limit(records: list[CaseRecord]) -> float | None:
    """The difference that has the full colour when all decision maps share one scale."""
    limits = [record.map_limit for record in records if record.map_limit is not None]
    return float(np.quantile(limits, 0.95)) if limits else None


def _findings(records: list[CaseRecord]) -> list[str]:
    """Names of the findings that the cases ask about, empty where each is of an image with one class."""
    return [name for name in dict.fromkeys(record.row["finding"] for record in records) if name]


def _facts(records: list[CaseRecord], classes: list[str]) -> str:
    rows = [record.row for record in records]
    facts = {"Images": f"{len({row['image'] for row in rows}):,}"}
    findings = _findings(records)
    if findings:
        facts["Cases, one a finding of an image"] = f"{len(rows):,}"
        found = Counter(row["finding"] for row in rows if row["predicted"])
        facts["Called present"] = ", ".join(f"{found[name]:,} {escape(name)}" for name in findings)
    else:
        facts["Called"] = _counts([row["predicted"] for row in rows], classes)
    labelled = [row for row in rows if row["label"] is not None]
    if labelled:
        wrong = sum(row["label"] != row["predicted"] for row in labelled)
        facts["Truth"] = _counts([row["label"] for row in labelled], classes)
        facts["Called wrongly"] = f"{wrong:,} of {len(labelled):,} ({100 * wrong / len(labelled):.1f} %)"
    sets = [row["set"] for row in rows if row["set"] is not None]
    if sets:
        facts["Sets of one class"] = f"{sum(len(s) == 1 for s in sets):,} of {len(sets):,}"
    strange = [row["ood"] for row in rows if row["ood"] is not None]
    if strange:
        # Of few validation images no p-value can be small: the smallest says so.
        marked = f"{sum(p < 0.01 for p in strange):,} of {len(strange):,}"
        facts["Unlike the model's images, p < 0.01"] = f"{marked} (smallest p {min(strange):.2g})"
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _counts(indices: list[int], classes: list[str]) -> str:
    counts = Counter(indices)
    return ", ".join(f"{counts[k]:,} {escape(name)}" for k, name in enumerate(classes) if counts[k])


def _notes(notes: dict[str, str]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in notes.items())
    return f'<table class="notes">{cells}</table>' if cells else ""
