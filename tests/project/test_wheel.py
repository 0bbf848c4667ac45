"""The built wheel holds the whole library, and works beside nothing but jax, optax and numpy."""

import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, cwd):
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy, as what former builds left in the tree would be packed too."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "jaxticket", folder / "jaxticket", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".", cwd=folder)
    (built,) = folder.glob("dist/*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_the_mark_of_types(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [*ROOT.glob("jaxticket/**/*.py"), ROOT / "jaxticket/py.typed"]
    assert packed == {file.relative_to(ROOT).as_posix() for file in files}


@pytest.mark.slow
def test_the_wheel_runs_the_readme_and_the_doctests_of_the_core(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    run(python, *PIP, "install", "--constraint", ROOT / "requirements/demo.txt", wheel, cwd=tmp_path)
    for file in ("README.md", "tests/project/installed.py"):
        shutil.copy(ROOT / file, tmp_path)
    for extra in ("flax", "orbax.checkpoint", "matplotlib", "pytest"):
        assert subprocess.run([python, "-c", f"import {extra}"], capture_output=True, check=False).returncode != 0
    package, *_, readme, doctests = run(python, "installed.py", "README.md", cwd=tmp_path).splitlines()
    assert package.startswith(f"package: {tmp_path / 'venv'}")
    assert readme == "README: 2 blocks"
    assert int(doctests.split()[1]) > 300
