"""docs/generative-bundles.md: its conditions are read, and its code runs."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

import pytest
import torch

from monai_diffclf.zoo import read_condition_file

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "generative-bundles.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.S))
def test_conditions_are_read(tmp_path, text):
    (tmp_path / "conditions.yaml").write_text(text)
    assert len(read_condition_file(tmp_path / "conditions.yaml").classes) in (2, 11)


@pytest.mark.skipif(util.find_spec("generative") is None, reason="the extra generative is not installed")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_pipeline_of_monai_generative_classifies():
    (code,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if "import_generative()" in text)
    names: dict = {}
    exec(code, names)  # noqa: S102
    last = names["unet"].out[2].conv.weight
    torch.nn.init.normal_(last, std=0.1)  # begins as zeros, with which all classes are the same
    result = names["inferer"].classify(torch.rand(1, 1, 32, 32), names["unet"])
    torch.testing.assert_close(result.probabilities.sum(), torch.tensor(1.0), check_dtype=False)
