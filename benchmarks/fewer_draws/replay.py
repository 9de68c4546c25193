"""How often each stopping rule gives the class of all draws, and what it spends: replayed on stored errors.

    python -m benchmarks.fewer_draws.replay --errors FILE --alpha 0.01 [--fit FILE] [--orders 20]

Prints one JSON object: rule -> "vote" and "mean" -> ``agreement`` with the class of all draws, ``evaluations_ratio``
(mean evaluations spent over those of all draws) and ``accuracy_difference`` (in accuracy over the known labels), with
the number of images that differ and the exact 95 % upper limit of their rate (Clopper and Pearson 1934).

The model of the predictive rule is fitted to the images of ``--fit``; without it, to one half of the patients for the
other half and the reverse, so that no image is judged by a model that has seen it. ``predictive_as_made`` is the same
rule as it was before it chose the order of the draws: as they come, with 8 bands, by what was made, at looks from 8
draws on, every 4, with the same limit at all of them. The sequential rule is replayed in several random orders of the
draws. Rules that are not given for the mean (exact curtailment) make all draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from monai_diffclf.fitting.stopping_rules import replay_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", type=Path, required=True, help="errors of all draws, as save_errors writes them")
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--fit", type=Path, help="validation errors to fit the model of the predictive rule to")
    parser.add_argument("--orders", type=int, default=20, help="random orders of the sequential rule")
    args = parser.parse_args()
    try:
        report = replay_file(args.errors, alpha=args.alpha, fit=args.fit, orders=args.orders)
    except ValueError as error:
        sys.exit(f"replay: {error}")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
