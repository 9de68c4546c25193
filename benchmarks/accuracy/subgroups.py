"""Metrics of the skin lesion bundle's validation images by sex and age band; no network.

    python -m benchmarks.accuracy.subgroups --table ISIC-2017_Validation_Data_metadata.csv

The table is the challenge's own (columns image_id, age_approximate, sex); it has none for the test images. Writes
``docs/subgroups_validation.csv`` of the bundle. During an evaluation the handler ``SubgroupReport`` does the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.bundles import BUNDLES
from monai_diffclf.data.table_rows import read_rows
from monai_diffclf.handlers import write_subgroups
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.metrics import age_bands, subgroup_metrics

DOCS = BUNDLES / "skin_lesion_diffusion" / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    args = parser.parse_args()
    people = {row["image_id"]: row for row in read_rows(args.table, ("image_id", "age_approximate", "sex"))}
    table = read_predictions(DOCS / "evaluation" / "validation_diffusion_mean_seed_0.csv")
    rows = [people[Path(key).stem] for key in table["keys"]]
    ages = [float(row["age_approximate"]) if row["age_approximate"].isdigit() else float("nan") for row in rows]
    sexes = ["" if row["sex"] == "unknown" else row["sex"] for row in rows]
    columns = {"sex": sexes, "age": age_bands(ages)}
    found = subgroup_metrics(table["labels"], table["probabilities"], columns)
    write_subgroups(DOCS / "subgroups_validation.csv", found)
    for row in found:
        auc, accuracy = (row["metrics"].get(name) for name in ("auc", "accuracy"))
        print(row["column"], row["subgroup"], row["num_images"], row["class_counts"], auc, accuracy)


if __name__ == "__main__":
    main()
