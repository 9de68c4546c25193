"""Write ``docs/benchmark.html`` from what the benchmarks measured: one file with everything inside, nothing fetched.

    python -m benchmarks.page.make_page [--results benchmarks/results] [--output docs/benchmark.html] [--png FOLDER]

Reads speed.json (``benchmarks/speed/side_by_side.py``), which must be there, and from the same folder what else there
is of blocks.json, replay.json, fewer_draws.json, inferer_overhead.json, mixed_precision.json, profile_network.json and
peak_memory.json.
``--png`` also writes each plot as a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.bundles import RESULTS, ROOT
from benchmarks.page import figures
from benchmarks.page.levels import levels_figure, levels_words, ways_table, weights_table
from benchmarks.page.tables import classes_table, flat, methods_table, number, parallel_table, short_table, table
from monai_diffclf.report.figures import to_svg
from monai_diffclf.report.style import STYLE
from monai_diffclf.storage.atomic_file import replace_text

FURTHER = {
    "blocks": "How much the saving differs between blocks of images (benchmarks/fewer_draws/blocks.py)",
    "replay": "Stopping rules replayed on all stored test errors (benchmarks/fewer_draws/replay.py)",
    "inferer_overhead": "Exact path against bare network calls (benchmarks/speed/inferer_overhead.py)",
    "mixed_precision": "What reduced precision changes (benchmarks/speed/mixed_precision.py)",
    "profile_network": "Where the network spends its time (benchmarks/speed/profile_network.py)",
    "peak_memory": "Highest memory of the evaluation of a large data set (benchmarks/speed/peak_memory.py)",
}
TABLE_STYLE = """
.wide { overflow-x: auto; }
.wide table { font-size: 14px; }
.wide th, .wide td { width: auto; padding: 6px 18px 6px 0; }
.wide td.number, .wide th.number { text-align: right; white-space: nowrap; }
.wide small { color: var(--muted); }
.plot.full { grid-column: 1 / -1; }
pre { overflow-x: auto; padding: 12px 16px; border-radius: 8px; background: var(--panel); font-size: 14px; }
"""
Row = dict[str, Any]


def plot(title: str, figure: Figure, words: str, folder: Path | None, *, full: bool = False) -> str:
    """A plot with its title and what it shows."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        figures.save_png(figure, str(folder / (title.lower().replace(" ", "_") + ".png")))
    kind = "plot full" if full else "plot"
    return (
        f'<figure class="{kind}"><h3>{escape(title)}</h3>{to_svg(figure, title)}'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def quality_plots(speed: Row, folder: Path | None) -> str:
    """Agreement and accuracy against evaluations and seconds."""
    stored = speed["scaling"]["stored"]
    if stored is None:
        return "<p>The rules were not replayed on all test images: their stored errors were missing.</p>"
    rows = stored["curves"]
    milliseconds = {row["name"]: row["milliseconds_per_evaluation"] for row in speed["methods"]}
    loop = next(row for row in speed["methods"] if row["name"] == "reference")
    whole = f"Replayed on the stored errors of all {stored['images']} test images, N = {stored['num_draws']}. "
    return (
        '<div class="plots">'
        + "".join(
            (
                plot(
                    "Agreement against evaluations",
                    figures.quality_figure(rows, "agreement"),
                    f"{whole}Each line is one rule, from careful (right) to bold (left): alpha from 0.001 to 0.3.",
                    folder,
                ),
                plot(
                    "Accuracy against evaluations",
                    figures.quality_figure(rows, "accuracy"),
                    "The same against the true classes. What a line loses to its right end is the price of stopping.",
                    folder,
                ),
                plot(
                    "Agreement against seconds",
                    figures.quality_figure(rows, "agreement", milliseconds),
                    "Evaluations of the replay times the time of one, as measured for each rule in the run above. The "
                    f"reference loop takes {number(loop['seconds_per_image'])} s.",
                    folder,
                ),
                plot(
                    "Cost against the number of all draws",
                    figures.draws_figure(stored["by_draws"]),
                    "Evaluations until decided at alpha 0.01, had there been N draws in all.",
                    folder,
                ),
            )
        )
        + "</div>"
    )


def growth(speed: Row, folder: Path | None) -> str:
    """Scaling plots and tables."""
    found = speed["scaling"]
    plots = (
        '<div class="plots">'
        + "".join(
            (
                plot(
                    "Cost against batch size",
                    figures.cost_figure(found["batch_size"], "batch_size", "evaluations in one call"),
                    "Bare network calls, and our exact path with everything it does besides.",
                    folder,
                ),
                plot(
                    "Cost against image size",
                    figures.cost_figure(found["image_size"], "pixels", "image side / pixels"),
                    "The same network on larger images, 16 evaluations in one call.",
                    folder,
                ),
                plot(
                    "Cost against the number of classes",
                    figures.classes_figure(found["classes"]["problems"]),
                    "Classes with a known density and the denoiser that is optimal for them, at the same best possible "
                    "accuracy for every K. In the vote every class must be evaluated until the image is decided: "
                    "its cost grows at least as K does. In the last problem two classes need no more than the fewest "
                    "draws that a rule makes: more classes then cannot need fewer each.",
                    folder,
                    full=True,
                ),
            )
        )
        + "</div>"
    )
    return plots + parallel_table(found) + classes_table(found["classes"])


def levels(results: Path, folder: Path | None) -> str:
    """What noise levels are worth, where it was measured."""
    path = results / "fewer_draws.json"
    if not path.is_file():
        return ""
    fewer = json.loads(path.read_text())
    words = levels_words(fewer)
    shown = plot("AUC by noise level", levels_figure(fewer), words["auc"], folder, full=True)
    return (
        f'<section><h2>What noise levels are worth</h2><div class="plots">{shown}</div><p>{words["weights"]}</p>'
        f"{weights_table(fewer)}<h3>Few draws, test set</h3><p>{words['ways']}</p>{ways_table(fewer)}</section>"
    )


def further(folder: Path) -> str:
    """What the other benchmarks wrote."""
    parts = []
    for name, title in FURTHER.items():
        path = folder / f"{name}.json"
        if path.is_file():
            rows = [(escape(key.replace("_", " ")), value) for key, value in flat(json.loads(path.read_text()))]
            parts.append(f"<details><summary>{escape(title)}</summary>{table(('', ''), rows)}</details>")
    return f"<section><h2>Other measurements</h2>{''.join(parts)}</section>" if parts else ""


def page(speed: Row, results: Path, folder: Path | None) -> str:
    """The whole page."""
    settings, machine = speed["settings"], speed["machine"]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    notes = "".join(f'<p class="notice">{escape(note)}</p>' for note in speed["notes"])
    options = " ".join(f"--{name} {settings[name]}" for name in ("images", "draws", "block"))
    methods = figures.methods_figure(speed["methods"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What a classification costs</title>
<style>{STYLE}{TABLE_STYLE}</style>
</head>
<body>
<main>
<header>
<h1>What a classification costs</h1>
<p class="lead">Published methods and ours with the same network, weights and images, in one run, as ratios.</p>
<p>Network and images: the bundle pneumonia_xray_diffusion, {settings["images"]} random images of PneumoniaMNIST's test
set, 28 pixels, 2 classes, N = {settings["draws"]} noise draws. Machine: {threads} of a server CPU
({escape(machine["cpu"])}, {machine["cpu_count"]} threads in all), PyTorch {escape(machine["torch"])}; no GPU. Seconds
depend on the machine, ratios much less.</p>
{notes}
</header>
<section><h2>In short</h2>{short_table(speed)}</section>
<section><h2>All methods</h2>
<p>Every method classified the same images, block by block in turns. Times faster: wall clock of the reference loop over
that of the method, and in brackets the lowest and the highest of the blocks of {settings["block"]} images: what a block
gains depends on its hardest image. Agreement: share of the images given the class that our exact path gives from all
draws under the same rule; the reference loop and Li et al. draw other noise, so that they differ from it on images near
the limit even with all draws. In brackets: exact 95 % intervals.</p>
{methods_table(speed)}
<div class="plots">{plot("Times faster", methods, "Grey: published methods.", folder, full=True)}</div></section>
<section><h2>How much is lost by stopping early</h2>{quality_plots(speed, folder)}</section>
<section><h2>How the cost grows</h2>{growth(speed, folder)}</section>
{levels(results, folder)}
{further(results)}
<section><h2>What the methods are</h2>
<p><b>Reference loop</b>: one image after the other; for each draw an independent noise level and new noise, and for
each class one call of the network (Favero et al. 2025). With several images a call, each image has its own draws.
<b>Li et al.</b> (2023): evenly spaced levels, noise shared by all images, batches of 32, classes dropped in stages;
with two classes nothing can be dropped before the last stage. <b>Ours</b>: draws and classes of all images packed into
full batches; levels stratified. <b>Exact curtailment</b> stops when the lead cannot be undone; the <b>sequential
test</b> errs on at most alpha = {settings["alpha"]} of the orders of the draws; the <b>predictive</b> rule stops when
a model of the draws to come gives another outcome less than alpha; <b>stages</b> make a fixed, small number of draws.
<b>Fast network</b>: the same network rewritten for inference.</p>
</section>
<section><h2>Repeat it</h2>
<pre>python -m benchmarks.speed.side_by_side --data DATA {options}
python -m benchmarks.page.make_page</pre>
<p>DATA is the folder of pneumoniamnist.npz. The run took {speed["seconds_in_all"] / 60:.0f} minutes.</p>
</section>
</main>
</body>
</html>
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmark.html")
    parser.add_argument("--png", type=Path, help="folder for the plots as pictures")
    args = parser.parse_args(arguments)
    source = args.results / "speed.json"
    if not source.is_file():
        sys.exit(f"make_page: {source} not found; make it with benchmarks/speed/side_by_side.py")
    replace_text(args.output, page(json.loads(source.read_text()), args.results, args.png))
    print(args.output)


if __name__ == "__main__":
    main()
