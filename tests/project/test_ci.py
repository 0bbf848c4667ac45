"""The check of a change ends with 0 exactly when every stage passed, and otherwise at the first stage that failed."""

import os
import pathlib
import shutil
import subprocess

import pytest

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


def test_all_stages_pass_and_so_does_the_check(check):
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    for target in ("lint", "docs", "report", "notebooks", "demo", "bench", "test", "slow", "multihost", "science"):
        assert f"made {target}\n" in done.stdout
    assert not list(check.folder.glob("tmp.*")), "what it wrote for itself is removed"


@pytest.mark.parametrize("target", ["lint", "bench", "test", "science"])
def test_a_stage_that_fails_fails_the_check(check, target):
    done = check(target)
    assert done.returncode == 1
    assert "FAILED" in done.stdout.splitlines()[-1]
    assert not list(check.folder.glob("tmp.*"))
    if target != "science":
        assert "made science" not in done.stdout
