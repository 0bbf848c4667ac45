"""Adds the pages that are not in this folder: the claims stored in evidence/, and the executed notebooks."""

import importlib
import inspect
import pathlib
import re
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


def on_post_build(*, config: Any) -> None:
    """Raises PluginError, naming them, for arguments of public functions that the reference does not show."""
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            html = (pathlib.Path(config.site_dir) / "api" / page.stem / "index.html").read_text()
            module = importlib.import_module(name)
            for member in getattr(module, "__all__", ()):
                function = getattr(module, member)
                if inspect.isfunction(function):
                    missing = [p for p in _documented(function) if not _shown(html, f"{name}.{member}", p)]
                    if missing:
                        raise PluginError(f"api/{page.name} does not show {missing} of {name}.{member}")


def _documented(function: Any) -> list[str]:
    parameters = [name for name in inspect.signature(function).parameters if name != "_"]
    return parameters if len(parameters) > 1 else []


def _shown(html: str, function: str, parameter: str) -> bool:
    """Whether the table of the function has a row of its own for the parameter."""
    _, heading, rest = html.partition(f'id="{function}"')
    own = rest.partition('<h3 id="jaxticket')[0] if "<h3" in rest else rest
    return bool(heading) and any(f"<code>{stars}{parameter}</code>" in own for stars in ("", "*", "**"))
