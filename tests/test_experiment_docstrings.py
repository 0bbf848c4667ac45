"""The examples in docstrings of experiments/ print what they say: pytest collects those of the package only."""

import doctest
import importlib
import pathlib

import pytest

import experiments

FILES = [file for folder in experiments.__path__ for file in sorted(pathlib.Path(folder).glob("*.py"))]
MODULES = [f"experiments.{file.stem}" for file in FILES if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert tried > 0
    assert failed == 0
