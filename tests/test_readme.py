"""The code in the README runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(*words: str) -> str:
    """The Python block of the README that holds all the words, with fewer draws."""
    found = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (block for block in found if all(word in block for word in words))
    return block.replace("num_draws=51", "num_draws=3")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_of_the_readme_runs() -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(blocks("DDPMScheduler(", "inferer.classify"), names)  # noqa: S102
    assert names["probabilities"].shape == (4, 2) and names["maps"].shape == (4, 2, 32, 32)
    with torch.inference_mode():
        validation = names["inferer"].classify(torch.rand(40, 1, 32, 32), names["network"], error_maps=True)
    names |= {"validation": validation, "labels": torch.arange(40) % 2}
    exec(blocks("fit_calibration", "CounterfactualGenerator").replace("(scheduler)", "(scheduler, num_steps=2)"), names)  # noqa: S102
    assert names["probabilities"].shape == (4, 2) and names["sets"].any(1).all()
    assert names["pairs"].counterfactual.shape == (4, 1, 32, 32)
    exec(blocks("ScoreClassifierInferer"), names)  # noqa: S102
    assert names["log_likelihood"].shape == names["posterior"].shape == (4, 2)
    assert names["ratio_maps"].shape == (4, 2, 32, 32) and names["denoising"].rule == "vote"
