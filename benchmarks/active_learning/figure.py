"""Draw the learning curves of the simulation from its result file.

python -m benchmarks.active_learning.figure [--result FILE] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from benchmarks.active_learning.simulate import RESULT
from benchmarks.evidence.protocol import ROOT

FIGURE = ROOT / "docs" / "images" / "learning_curves.png"
NAMES = {"isic2017_224": "Skin lesions (ISIC 2017)", "pneumoniamnist_28": "Chest X-rays (PneumoniaMNIST)"}
STYLES = {"random": "k-o", "vote_entropy": "C0-s", "margin": "C1-^", "typicality": "C2-v", "diversity": "C3-D"}


def draw(result: dict[str, Any]) -> Any:
    """The curves of all sets, with the interval of random, whose images and seeds they share."""
    sets = result["sets"]
    figure, axes = plt.subplots(1, len(sets), figsize=(5.4 * len(sets), 3.8), squeeze=False)
    for axis, (name, content) in zip(axes[0], sets.items(), strict=True):
        for strategy, entry in content["strategies"].items():
            values = [point["value"] for point in entry["auc"]]
            axis.plot(content["labels"], values, STYLES[strategy], label=strategy.replace("_", " "), markersize=4)
            if strategy == "random":
                low, high = ([point[bound] for point in entry["auc"]] for bound in ("low", "high"))
                axis.fill_between(content["labels"], low, high, color="k", alpha=0.08, linewidth=0)
        axis.set(title=NAMES[name], xlabel="labels", ylabel="macro AUC on held-out images")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--output", type=Path, default=FIGURE)
    args = parser.parse_args(arguments)
    matplotlib.use("agg")
    figure = draw(json.loads(args.result.read_text(encoding="utf-8")))
    figure.savefig(args.output, dpi=110, metadata={"Software": None})
    print(args.output)


if __name__ == "__main__":
    main()
