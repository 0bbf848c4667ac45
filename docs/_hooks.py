"""Adds the pages that are not in this folder: the claims stored in evidence/, and the executed notebooks."""

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for `experiments`

from experiments.claims import dashboard
from experiments.claims.record import load

ROOT = pathlib.Path(__file__).resolve().parents[1]
_EVIDENCE = ROOT / "docs" / "evidence"
_NOTEBOOKS = ROOT / "build" / "notebooks"  # where `make notebooks` writes


def on_files(files: Files, *, config: Any) -> Files:
    """Adds evidence/report.html, and each notebook with the images of its outputs."""
    links = [("Methods", "../methods/"), ("Registry", "../registry/"), ("How claims are made", "../evidence/")]
    page = dashboard.page(load(_EVIDENCE), links=links)
    files.append(File.generated(config, "evidence/report.html", content=page))
    for file in _notebooks(config):
        files.append(file)
    return files


def _notebooks(config: Any) -> Iterator[File]:
    for source in sorted((ROOT / "notebooks").glob("*.md")):
        page = _NOTEBOOKS / source.name
        if not page.exists():
            raise PluginError(f"{page} is missing: run `make notebooks` first.")
        for path in (page, *sorted((_NOTEBOOKS / f"{page.stem}_files").glob("*"))):
            yield File.generated(config, f"notebooks/{path.relative_to(_NOTEBOOKS)}", abs_src_path=str(path))
