"""The command line: the order of --help, hints, and flags that are checked before data are loaded."""

import dataclasses
import re

import pytest

from experiments import compare, imp, train
from experiments.runs import command_line
from experiments.studies.comparison.config import Config as Comparison
from experiments.studies.imp.config import Config
from experiments.studies.method import Config as Method
from experiments.training import problems
from jaxticket import data
from jaxticket.errors import InputError

PROCESSES = ["distributed", "coordinator", "num-processes", "process-id"]


def flags_of_help(main, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code
    listed = re.findall(r"^\W{0,4}--([a-z][\w-]*)", capsys.readouterr().out, re.MULTILINE)
    return [flag for flag in listed if flag != "preset"]  # which the description names


@pytest.mark.parametrize(
    ("main", "config", "first"),
    [(imp.main, Config, "levels"), (train.main, Method, "method"), (compare.main, Comparison, "methods")],
)
def test_help_lists_own_flags_first_and_those_of_several_processes_last(main, config, first, capsys):
    flags = flags_of_help(main, capsys)
    names = [field.name.replace("_", "-") for field in dataclasses.fields(config)]
    assert sorted(flags) == sorted(names)
    assert flags[0] == first
    assert flags[-4:] == PROCESSES
    assert names[:4] == PROCESSES, "the order of run folders and commands stays"


@pytest.mark.parametrize(("main", "flag"), [(train.main, "--density"), (compare.main, "--densities")])
@pytest.mark.parametrize("given", [["--sparsity", "0.9"], ["--sparsity=0.9"]])
def test_sparsity_gets_a_hint(main, flag, given, capsys):
    with pytest.raises(SystemExit) as end:
        main(given)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"use {flag}, the fraction kept: density = 1 - sparsity" in line


def test_other_unknown_flags_get_no_such_hint(capsys):
    with pytest.raises(InputError, match="--spam") as error:
        command_line.parse(Method, ["--spam", "1"], description=None)
    assert "sparsity" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "conv_4"}, "--model is conv_4, but must be lenet_300_100 for the flat images of mnist5k"),
        ({"reduction": "fixed", "placement": "vmap"}, "--placement is vmap, but must be data or auto"),
    ],
)
def test_flags_are_checked_before_data_are_loaded(changes, message, monkeypatch):
    monkeypatch.setattr(data, "mnist5k", lambda **_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=re.escape(message)):
        problems.basis(Config(**changes))


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_missing_files_name_the_flag(name, tmp_path):
    with pytest.raises(InputError, match=r"; --data-dir names the folder of the files$"):
        problems.load(Config(model="lenet_300_100", data=name, data_dir=tmp_path))


def test_other_errors_of_the_data_do_not_name_the_flag():
    with pytest.raises(InputError) as error:
        problems.load(Config(validation=6000))
    assert "--data-dir" not in str(error.value)
