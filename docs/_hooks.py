"""What the site has beside the pages in this folder: the page of claims, made of what is stored in evidence/."""

import pathlib
import sys
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for `experiments`

from experiments.claims import dashboard
from experiments.claims.record import load

_EVIDENCE = pathlib.Path(__file__).with_name("evidence")


def on_files(files: Files, *, config: Any) -> Files:
    """Adds evidence/report.html."""
    links = [("Methods", "../methods/"), ("Registry", "../registry/"), ("How claims are made", "../evidence/")]
    page = dashboard.page(load(_EVIDENCE), links=links)
    files.append(File.generated(config, "evidence/report.html", content=page))
    return files
