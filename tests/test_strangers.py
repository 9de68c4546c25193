"""Hundreds of inputs of the kinds that strangers bring: none is read wrong in silence, none ends in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.strangers import all_cases
from tests.strangers.cases import Case, judge

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_is_read_right_or_refused_in_one_line(case: Case, tmp_path: Path):
    assert judge(case, tmp_path) in ("right", "refused")


def test_each_case_has_its_own_name():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) > 300
