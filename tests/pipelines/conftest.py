"""Tiny pipelines in folders, each made once."""

from __future__ import annotations

import pytest

from tests.pipelines.tiny_pipelines import write_pipeline


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """Function from the kind of a pipeline to its folder; skipped where the extra is not installed."""
    for package in ("diffusers", "transformers", "safetensors"):
        pytest.importorskip(package, reason=f"the extra diffusers is not installed: no package {package}")
    made = {}

    def find(kind: str):
        if kind not in made:
            made[kind] = write_pipeline(tmp_path_factory.mktemp("pipelines") / kind, kind)
        return made[kind]

    return find
