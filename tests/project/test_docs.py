"""The code on the pages of the documentation runs and prints what stands there, and what they name exists."""

import doctest
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


def test_every_package_is_in_the_reference() -> None:
    modules = [path.stem for path in (ROOT / "jaxticket").glob("[!_]*") if path.is_dir() or path.suffix == ".py"]
    assert [name for name in modules if f"jaxticket.{name}" not in REFERENCE] == []


def test_functions_hidden_by_their_module_are_in_the_reference() -> None:
    """In `select.py` of a package, `select` is shadowed for a reader of the sources: the reference names it."""
    packages = [init.parent for init in (ROOT / "jaxticket").rglob("__init__.py")]
    hidden = [
        ".".join([*folder.relative_to(ROOT).parts, name, name])
        for folder in packages
        for name in re.findall(r"import (\w+) as \1$", (folder / "__init__.py").read_text(), re.MULTILINE)
        if re.search(rf"^def {name}\(", source(folder / f"{name}.py"), re.MULTILINE)
    ]
    assert hidden
    assert [name for name in hidden if name not in REFERENCE] == []


def source(file: pathlib.Path) -> str:
    return file.read_text() if file.exists() else ""
