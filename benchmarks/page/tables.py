"""The tables of ``docs/benchmark.html``, as HTML; used by ``benchmarks/page/make_page.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.page.figures import PROBLEMS

Row = dict[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table; columns after the first ``words`` hold numbers. Cells are HTML."""

    def cells(kind: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{kind} class="number">{value}</{kind}>' if place >= words else f"<{kind}>{value}</{kind}>"
            for place, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells("th", header)}</tr>{body}</table></div>'


def percent(found: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    """A rate and its interval in percent."""
    if found is None:
        return "-"
    span = f" <small>({100 * found['low']:.1f} to {100 * found['high']:.1f})</small>" if interval else ""
    return f"{100 * found['value']:.1f} %{span}"


def number(value: float) -> str:
    """Three digits, in plain notation."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def stored_row(speed: Row, curve: str) -> Row | None:
    """The replay on all stored test errors of a curve at the settings of the run, if there is one."""
    stored = speed["scaling"]["stored"]
    if stored is None:
        return None
    alpha = speed["settings"]["alpha"]
    wanted = [r for r in stored["curves"] if r["curve"] == curve and r["setting"] in (alpha, 0.0, stored["num_draws"])]
    return wanted[0] if wanted else None


def plain(name: str) -> str:
    """A method's name without the network it ran on."""
    return name.removeprefix("fast_")


def best_at(speed: Row, least: float = 0.99) -> tuple[Row, Row, str] | None:
    """Our fastest method that agrees with all draws on 99 % of the images, its agreement, and where that is from."""
    found = []
    for row in speed["methods"]:
        if not row["label"].startswith("ours") or "agreement" not in row:
            continue
        stored = stored_row(speed, plain(row["name"]))
        agreement = min(row["agreement"].values(), key=lambda a: a["value"]) if stored is None else stored["agreement"]
        where = f"{agreement['of']} {'images of this run' if stored is None else 'test images, replayed'}"
        if agreement["value"] >= least:
            found.append((row, agreement, where))
    return max(found, key=lambda item: item[0]["times_faster"]) if found else None


def verdict(met: bool) -> str:
    return "met" if met else '<span class="wrong">not met</span>'


def short_table(speed: Row) -> str:
    """The figures aimed at, and what came out."""
    rows = []
    draws = speed["settings"]["draws"]
    if (found := best_at(speed)) is not None:
        row, agreement, where = found
        each = row["times_faster_in_each_block"]
        rows.append(
            (
                f"Ours at 99 % agreement against the reference loop, N = {draws}, wall clock",
                f"{row['times_faster']:.1f} times less <small>(blocks: {min(each):.1f} to {max(each):.1f})</small><br>"
                f"<small>{escape(row['label'])}; agreement {percent(agreement)}, {where}</small>",
                "at least 12 times less",
                verdict(row["times_faster"] >= 12),
            )
        )
    bare = speed["scaling"]["against_bare"]
    rows.append(
        (
            "Exact path against bare network calls at their best batch size, equal N",
            f"{bare['ratio_default_batch']:.3f} times the time <small>(batches of {bare['default_batch_size']})</small>"
            "<br>"
            f"{bare['ratio_same_batch']:.3f} <small>(batches of {bare['best_batch_size']}, the network's best)</small>",
            "at most 1.05 times",
            verdict(min(bare["ratio_default_batch"], bare["ratio_same_batch"]) <= 1.05),
        )
    )
    problems = speed["scaling"]["classes"]["problems"]
    last = max(row["num_classes"] for row in problems)
    for row in problems:
        if row["num_classes"] == last:
            cost = {name: row[f"{name}_mean"]["relative"] for name in ("predictive", "sequential")}
            rows.append(
                (
                    f"{last} classes against {min(r['num_classes'] for r in problems)}, equal accuracy, mean error: "
                    f"{PROBLEMS[row['problem']].lower()}",
                    f"{cost['predictive']:.1f} <small>(predictive)</small>, {cost['sequential']:.1f} "
                    "<small>(sequential test)</small> times the evaluations",
                    "at most 5 times",
                    verdict(min(cost.values()) <= 5),
                )
            )
    return table(("What", "Measured", "Aimed at", ""), rows, words=4)


def methods_table(speed: Row) -> str:
    """All methods, one row each."""
    rows = []
    for row in speed["methods"]:
        agreement, accuracy = row.get("agreement", {}), row.get("accuracy", {})
        rules = list(agreement) or ["-"]
        note = (
            f" <small>(timed at {row['scaled_from_draws']} draws, scaled)</small>" if "scaled_from_draws" in row else ""
        )
        stored = stored_row(speed, plain(row["name"]))
        each = row["times_faster_in_each_block"]
        spread = f" <small>({min(each):.1f} to {max(each):.1f})</small>" if row["name"] != "reference" else ""
        rows.append(
            (
                escape(row["label"]) + note,
                f"{row['times_faster']:.2f}{spread}",
                number(row["seconds_per_image"]),
                number(row["evaluations_per_image"]),
                number(row["milliseconds_per_evaluation"]),
                "<br>".join(f"{percent(agreement.get(rule))} <small>{rule}</small>" for rule in rules),
                percent(stored["agreement"]) if stored is not None and not row["name"].endswith("exact") else "-",
                "<br>".join(f"{percent(accuracy.get(rule))} <small>{rule}</small>" for rule in rules),
            )
        )
    return table(
        (
            "Method",
            "Times faster (blocks)",
            "Seconds an image",
            "Evaluations an image",
            "Milliseconds an evaluation",
            "Agrees with all draws",
            "The same, all test images",
            "Accuracy",
        ),
        rows,
    )


def parallel_table(found: Row) -> str:
    """Threads and processes."""
    rows = [
        (f"1 process, {row['threads']} thread{'s' if row['threads'] > 1 else ''}", row["compute_errors_ms"])
        for row in found["threads"]
    ]
    rows += [
        (
            f"{row['processes']} process{'es' if row['processes'] > 1 else ''}, 1 thread each",
            1000 * row["seconds"] / (2 * row["images"] * row["draws"]),
        )
        for row in found["processes"]
    ]
    first = rows[0][1]
    cells = [(name, f"{value:.3g}", f"{first / value:.2f}") for name, value in rows]
    return "<h3>Threads and processes</h3>" + table(("", "Milliseconds an evaluation", "Times faster"), cells)


def classes_table(found: Row) -> str:
    """Evaluations by number of classes."""
    rows = []
    for row in found["problems"]:
        cells = [
            f"{row[key]['evaluations']:,.0f} &plusmn; {row[key]['standard_error']:,.0f}"
            f" <small>({row[key]['relative']:.1f}; {row[key]['agree']}/{found['images']})</small>"
            for key in ("predictive_mean", "sequential_mean", "predictive_vote", "sequential_vote")
        ]
        all_draws = f"{row['num_classes'] * found['num_draws']:,}"
        title = PROBLEMS[row["problem"]]
        rows.append((title, str(row["num_classes"]), f"{row['strength']:.2f}", all_draws, *cells))
    header = (
        "Problem",
        "K",
        "Strength",
        "All draws",
        *(f"{n}, {r}" for r in ("mean", "vote") for n in ("Predictive", "Sequential")),
    )
    return (
        "<h3>Evaluations an image by number of classes</h3><p>Mean and its standard error; in brackets the ratio to "
        "the fewest classes, and on how many images the class is that of all draws. Strength: how much one draw tells, "
        "mean over its spread; real networks have 0.6 to 0.9. The noise levels of the first three problems were "
        "chosen for a strength near that after easier settings had been tried, in which 20 classes cost 8 to 16 times "
        "as much as 2: how the cost grows depends on the problem.</p>" + table(header, rows)
    )


def flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows: name and value."""
    if isinstance(values, Mapping):
        return [row for key, value in values.items() for row in flat(value, f"{prefix}, {key}" if prefix else str(key))]
    if isinstance(values, list) and any(isinstance(value, (Mapping, list)) for value in values):
        return [row for i, value in enumerate(values) for row in flat(value, f"{prefix} {i + 1}")]
    if isinstance(values, list):
        return [(prefix, escape(", ".join(str(value) for value in values)))]
    text = f"{values:,.4g}" if isinstance(values, float) else f"{values:,}" if type(values) is int else str(values)
    return [(prefix, escape(text))]
