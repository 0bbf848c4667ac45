"""The examples in docstrings of experiments/ print what they say: pytest collects those of the package only."""

import doctest
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = [file.relative_to(ROOT) for file in sorted((ROOT / "experiments").rglob("*.py")) if ">>> " in file.read_text()]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_examples(file):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried > 0
    assert failed == 0
