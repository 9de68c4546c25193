"""Make all results of the protocol that are not there yet, the most telling first.

    python -m benchmarks.evidence.run_all --minutes 60 [--first frozen] [--list]

A group of runs is begun only while time is left. What fails says so and does not stop the rest; a training that was
stopped goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import torch

from benchmarks.evidence.protocol import data_settings, protocol
from benchmarks.evidence.run import conditions_of, run

LARGE = ("busi_224", "isic2017_224", "kermany_cxr_224")
SMALL = ("busi_64", "isic2017_64", "kermany_cxr_64", "pneumoniamnist_28")
PROBES = ("linear_probe", "shrunken_lda")
CHANGED = ("learning_curve", "label_noise")


class Group(NamedTuple):
    """Runs that are made together: methods by data sets by seeds, under some comparisons."""

    name: str
    methods: tuple[str, ...]
    data: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    comparisons: tuple[str, ...] = ("primary",)
    folds: bool = False


GROUPS = (
    Group("frozen", PROBES, LARGE),
    Group("stored", ("diffusion_pixels",), ("pneumoniamnist_28",), (0, 1, 2)),
    Group("stored", ("diffusion_pixels", "resnet18"), ("isic2017_64",)),
    Group("floor", ("pixels_logistic", "pixels_trees"), (*LARGE, "pneumoniamnist_28")),
    Group("diffusion", ("diffusion_representation",), LARGE),
    Group("changed", PROBES, LARGE, (0, 1, 2), CHANGED),
    Group("adapted", ("cnn_finetuned", "diffusion_adapted"), LARGE, (0, 1, 2)),
    Group("few_draws", ("diffusion_adapted",), LARGE, (0, 1, 2), ("few_draws",)),
    Group("combined", ("ensemble_diffusion_cnn", "cascade"), LARGE),  # of stored results
    Group("corrupted", ("linear_probe", "diffusion_representation"), LARGE, (0,), ("corruption", "other_kinds")),
    Group("scratch", ("resnet18",), ("busi_64", "pneumoniamnist_28"), (0, 1, 2)),
    Group("combined", ("ensemble_diffusion_resnet18", "cascade"), ("pneumoniamnist_28", "isic2017_64")),
    Group("combined", ("resnet18_ensemble",), ("busi_64", "pneumoniamnist_28")),
    Group("shortcut", PROBES, LARGE, (0, 1, 2), ("shortcut",)),
    Group("seeds", ("diffusion_representation",), LARGE, (1, 2), ("primary", "corruption", "other_kinds")),
    Group("corrupted", ("cnn_finetuned",), LARGE, (0, 1, 2), ("corruption", "other_kinds")),
    Group("folds", PROBES, LARGE[:2], folds=True),
    Group("changed", ("cnn_finetuned",), LARGE, (0, 1, 2), (*CHANGED, "shortcut")),
    Group("scratch", ("resnet18",), ("kermany_cxr_64", *LARGE), (0, 1, 2)),
    Group("scratch", ("densenet121",), (*SMALL[:3], *LARGE), (0, 1, 2)),
    Group("changed", ("resnet18",), LARGE, (0, 1, 2), (*CHANGED, "shortcut", "corruption", "other_kinds")),
    Group("folds", ("cnn_finetuned", "diffusion_representation", "diffusion_adapted"), LARGE[:2], folds=True),
    Group("folds", ("resnet18",), LARGE[:2], folds=True),
)


def runs(
    groups: tuple[Group, ...] = GROUPS, first: str | None = None
) -> Iterator[tuple[str, str, int, list[str], str]]:
    """Method, data set, seed, conditions and step of each run, in order.

    Example:
        >>> next(runs())
        ('linear_probe', 'busi_224', 0, ['primary'], 'final')
    """
    ordered = sorted(groups, key=lambda group: group.name != first) if first else groups
    for group in ordered:
        conditions = [condition for name in group.comparisons for condition in conditions_of(name)]
        for data, method, seed in itertools.product(group.data, group.methods, group.seeds):
            steps = [f"fold{k}" for k in range(data_settings(data)["folds"])] if group.folds else ["final"]
            for step in steps:
                yield method, data, seed, conditions, step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--first", choices=sorted({group.name for group in GROUPS}))
    parser.add_argument("--list", action="store_true", help="say what would be made, and make nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    end, failed = time.monotonic() + 60 * args.minutes, 0
    for method, data, seed, conditions, step in runs(first=args.first):
        if args.list:
            print(method, data, seed, step, *conditions)
            continue
        if time.monotonic() > end:
            print("the time is over; run it again to go on", file=sys.stderr)
            break
        try:
            run(method, data, seed, conditions, step)
        except Exception:
            traceback.print_exc()
            failed += 1
    print(f"{failed} runs failed; protocol {protocol()['version']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
