"""The check of a change ends with 0 exactly when every stage passed, and otherwise at the first stage that failed."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import jaxticket

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Stands for make: says what it was asked for, and fails at the target named in $BROKEN.
MAKE = """#!/bin/bash
echo "made $1"
[ "$1" != "$BROKEN" ]
"""


@pytest.fixture
def check(tmp_path):
    """Runs the check in a folder where every stage is a stand-in, and the stage named fails."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "tests/experiments").mkdir(parents=True)
    (tmp_path / "tests/experiments/test_any.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(MAKE)
    (tmp_path / "bin/make").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def run(broken=""):
        env = {**os.environ, "PATH": path, "BROKEN": broken, "TMPDIR": str(tmp_path)}
        return subprocess.run(
            ["bash", str(tmp_path / ".ci/run")], env=env, capture_output=True, text=True, timeout=60, check=False
        )

    run.folder = tmp_path
    return run


@pytest.fixture
def pythons(check, monkeypatch):
    """Stands for the interpreters that the check looks for: those of the PATH end with this code, pyenv has none."""

    def stand(file, code):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\nexit {code}\n")
        file.chmod(0o755)

    monkeypatch.setenv("HOME", str(check.folder))

    def on_the_path(code):
        for name in ("python3.12", "python3.13"):
            stand(check.folder / "bin" / name, code)

    on_the_path.stand = stand
    return on_the_path


@pytest.mark.parametrize("installed", [True, False])
def test_the_newest_versions_are_tried_where_there_is_a_python_for_them(check, pythons, installed):
    pythons(0 if installed else 1)
    done = check()
    assert done.returncode == 0
    assert ("made newest\n" in done.stdout) == installed
    assert ("newest skipped" in done.stdout) == (not installed)


def test_interpreters_of_pyenv_count(check, pythons):
    pythons(1)
    python = check.folder / ".pyenv/versions/3.12.1/bin/python"
    pythons.stand(python, 0)
    assert f"make newest PYTHON={python} " in check().stdout


def test_all_stages_pass_and_so_does_the_check(check):
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    for target in (
        "lint",
        "docs",
        "report",
        "notebooks",
        "demo",
        "bench",
        "test",
        "lab",
        "breadth",
        "oldest",
        "wheel",
        "hf",
        "slow",
        "multihost",
        "science",
    ):
        assert f"made {target}\n" in done.stdout
    assert not list(check.folder.glob("tmp.*")), "what it wrote for itself is removed"


@pytest.mark.parametrize("target", ["lint", "bench", ".venv-oldest/stamp", "test", "science"])
def test_a_stage_that_fails_fails_the_check(check, target):
    done = check(target)
    assert done.returncode == 1
    assert "FAILED" in done.stdout.splitlines()[-1]
    assert not list(check.folder.glob("tmp.*"))
    if target != "science":
        assert "made science" not in done.stdout


def test_the_forge_tests_each_supported_python():
    """Those of setup.cfg's classifiers."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text())
    assert re.findall(r"3\.\d+", re.search(r"python: \[.*\]", workflow)[0]) == supported


def test_the_version_to_cite_is_that_of_the_package():
    assert f"\nversion: {jaxticket.__version__}\n" in (ROOT / "CITATION.cff").read_text()
