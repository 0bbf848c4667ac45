"""Text in plain English: how docstrings begin, the words that they avoid, and arguments that are all documented."""

import ast
import importlib
import inspect
import pathlib
import re

import jaxticket

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPENERS = r"(Of|What|Which|How|Why|Is|Are|Does|Do|Did|Has|Have|Can|May|Shall|Where)\b"
WORDS = r"\b(anew|go(es|ing)? on|is no(?! longer| more)|are no(?! longer| more)|tells?|told)\b"
SOURCES = [
    path for folder in ("jaxticket", "examples", "experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py")
]
# Modules that people import by name: no part of their path has an underscore in front.
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "jaxticket").rglob("*.py")
    if not re.search(r"/_(?!_init__)", str(path.relative_to(ROOT)))
]


def texts(path):
    """Every docstring of a file, with the line of what it describes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


def public():
    """Name and object of each public function and class."""
    for module in map(importlib.import_module, sorted(MODULES)):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{module.__name__}.{name}", value


def documented(text, section):
    """The names in a section of a docstring, such as Args."""
    found = re.search(rf"^{section}:\n((?:  .*\n|\n)*)", text + "\n", re.MULTILINE)
    return re.findall(r"^  \*{0,2}(\w+):", found.group(1), re.MULTILINE) if found else []


def test_docstrings_begin_with_a_verb_or_a_noun_phrase():
    bad = [where for path in SOURCES for where, text in texts(path) if re.match(OPENERS, text)]
    assert bad == []
    questions = [where for path in SOURCES for where, text in texts(path) if text.split("\n")[0].endswith("?")]
    assert questions == []


def test_docstrings_avoid_words_that_read_as_a_translation():
    bad = [f"{where}: {m.group()}" for path in SOURCES for where, text in texts(path) if (m := re.search(WORDS, text))]
    assert bad == []


def test_every_argument_of_a_public_function_is_documented_by_itself():
    missing = {}
    for name, value in public():
        if not inspect.isfunction(value):
            continue
        wanted = [p for p in inspect.signature(value).parameters if p != "_"]
        if len(wanted) > 1 and documented(inspect.getdoc(value), "Args") != wanted:
            missing[name] = wanted
    assert missing == {}


def test_doctests_stand_in_a_section_of_examples():
    bad = []
    for name, value in public():
        before, _, _ = (inspect.getdoc(value) or "").partition("\nExamples:\n")
        if ">>>" in before:
            bad.append(name)
    assert bad == []


def test_every_public_module_says_what_is_public():
    for module in map(importlib.import_module, sorted(MODULES)):
        defined = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and getattr(value, "__module__", None) == module.__name__
            and (inspect.isfunction(value) or inspect.isclass(value))
        }
        assert defined <= set(getattr(module, "__all__", ())), module.__name__
        assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))
    assert jaxticket.__all__ == sorted(jaxticket.__all__)
