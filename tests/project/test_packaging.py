"""What is shipped imports on every system that the package names."""

import pathlib
import subprocess
import sys

import jaxticket

# Windows lacks it.
WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
import importlib, pkgutil
import jaxticket

def visit(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.rpartition(".")[2].startswith("_"):
            print(module.name)
            imported = importlib.import_module(module.name)
            if module.ispkg:
                visit(imported)

visit(jaxticket)
"""


def test_every_public_module_imports_without_the_locks_of_unix():
    done = subprocess.run([sys.executable, "-c", WITHOUT_FCNTL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packages = {name for name in done.stdout.split() if name.count(".") == 1}
    folders = {init.parent.name for init in pathlib.Path(jaxticket.__file__).parent.glob("*/__init__.py")}
    assert {f"jaxticket.{name}" for name in folders if not name.startswith("_")} <= packages
