"""Who may import what of experiments/, where the contracts of setup.cfg cannot look; scripts stay short."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "experiments").glob("[!_]*.py"))
# Of docs and benchmarks, which are no packages: the rooms that each may enter.
ALLOWED = {
    "docs": {"claims"},
    "benchmarks": {"runs", "training", "reports", "claims", "studies"},
}
OUTSIDE = [file for folder in ALLOWED for file in sorted((ROOT / folder).rglob("*.py"))]


def rooms(file):
    """The parts of experiments/ that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "experiments":
            modules = [f"experiments.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        yield from (module.split(".")[1] for module in modules if module.startswith("experiments."))


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda file: str(file.relative_to(ROOT)))
def test_docs_and_benchmarks_import_no_script(file):
    assert {*rooms(file)} <= ALLOWED[file.relative_to(ROOT).parts[0]]


def test_imports_are_seen():
    assert {*rooms(ROOT / "experiments" / "report.py")} == {"claims", "runs"}
    assert {*rooms(ROOT / "docs" / "_hooks.py")} == {"claims"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_scripts_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 120
