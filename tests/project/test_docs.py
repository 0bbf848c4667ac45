"""The code on the pages of the documentation runs and prints what stands there, and what they name exists."""

import doctest
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = {page.name: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}
CODE = {name: re.findall(r"```pycon\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()}
REFERENCE = {
    name
    for page in (ROOT / "docs" / "api").glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("name", [name for name, blocks in CODE.items() if blocks])
def test_code_prints_what_the_page_says(name: str) -> None:
    test = doctest.DocTestParser().get_doctest("\n".join(CODE[name]), {}, name, name, 0)
    printed: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
    assert result.attempted > 0
    assert not result.failed, "".join(printed)


def test_every_piece_of_evidence_exists() -> None:
    evidence = re.findall(r"`((?:tests|experiments|benchmarks)/[^`]*)`", PAGES["methods.md"])
    assert evidence
    assert [path for path in evidence if not (ROOT / path).exists()] == []


TABLES = [
    (file.relative_to(ROOT), table.splitlines())
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for table in re.findall(r"(?:^\|.*\n)+", file.read_text() + "\n", re.MULTILINE)
]


@pytest.mark.parametrize(("page", "rows"), TABLES, ids=[f"{page}-{rows[0]}" for page, rows in TABLES])
def test_every_row_of_a_table_has_a_cell_for_each_heading(page: pathlib.Path, rows: list[str]) -> None:
    headings, *others = [re.split(r"(?<!\\)\|", row.strip())[1:-1] for row in rows]
    assert [row for row, cells in zip(rows[1:], others) if len(cells) != len(headings)] == []


def test_each_value_of_the_registry_stands_below_its_heading() -> None:
    """The values are those that some method has; a column that is left out moves others below its heading."""
    (table,) = [rows for page, rows in TABLES if page.name == "registry.md" and "| unit |" in rows[0]]
    headings, _, *methods = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table]
    columns = dict(zip(headings, zip(*methods, strict=True), strict=True))
    assert set(columns["unit"]) == {"element", "block"}
    assert set(columns["when"]) == {"before", "during"}
    assert set(columns["regrows"]) == {"yes", "no"}


def test_functions_for_tasks_exist() -> None:
    named = re.findall(r"`([a-z_]+(?:\.\w+)+)", PAGES["features.md"])
    assert len(named) > 100
    assert [name for name in named if not exists(f"jaxticket.{name.removeprefix('jt.')}")] == []


def exists(name: str) -> bool:
    """Whether a module, or an attribute of one, has this name."""
    package, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(package), attribute) or bool(importlib.import_module(name))
    except ModuleNotFoundError:
        return False


EXAMPLES = {path.stem: path.read_text() for path in sorted((ROOT / "examples").glob("*.py"))}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_a_page_that_shows_the_file_and_says_what_our_lines_do(name: str) -> None:
    page = (ROOT / "docs" / "examples" / f"{name}.md").read_text()
    assert f'--8<-- "examples/{name}.py"' in page
    called = set(re.findall(r"\bjt\.[\w.]+", EXAMPLES[name])) - {"jt.density", "jt.mask_of"}
    assert called
    assert [function for function in called if function not in page] == []
    assert f"({name}.md)" in (ROOT / "docs" / "examples" / "index.md").read_text()
    assert f"examples/{name}.md" in (ROOT / "mkdocs.yml").read_text()


def test_every_page_of_an_example_has_its_file() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "examples").glob("*.md")} - {"index"}
    assert pages == set(EXAMPLES)


def test_every_package_is_in_the_reference() -> None:
    modules = [path.stem for path in (ROOT / "jaxticket").glob("[!_]*") if path.is_dir() or path.suffix == ".py"]
    assert [name for name in modules if f"jaxticket.{name}" not in REFERENCE] == []
