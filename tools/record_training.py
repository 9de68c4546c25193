"""Write how a training went as a table that can be committed beside its weights.

    python -m tools.record_training RUN --to bundles/skin_lesion_diffusion/docs/training/seed_0.csv

Reads the TensorBoard events that the training left in RUN: the validation metric by epoch and the mean loss of each
epoch, as rows of tag, step (the epoch) and value.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from monai_diffclf.report.training_curve import read_training_curve
from monai_diffclf.storage.atomic_file import replace_text


def record(run: Path, metric: str = "val_auc") -> str:
    """The table's text.

    Raises:
        ValueError: when the folder has no events of a training.
    """
    curve = read_training_curve(run, metric=metric)
    if curve is None:
        raise ValueError(f"run: expected the events of a training in {run}, there are none")
    rows = [(metric, int(epoch), value) for epoch, value in zip(curve.validated, curve.quality, strict=True)]
    rows += [("train_loss", int(epoch), value) for epoch, value in zip(curve.epochs, curve.loss, strict=True)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("tag", "step", "value"))
    writer.writerows((tag, step, f"{value:.6f}") for tag, step, value in rows)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, required=True, metavar="CSV")
    parser.add_argument("--metric", default="val_auc")
    args = parser.parse_args()
    try:
        replace_text(args.to, record(args.run, args.metric))
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
