"""Run the README's code and the doctests of the core, where only the built wheel is installed.

    python installed.py README.md

Nothing but the library and the standard library is imported, as nothing else is there.
"""

import doctest
import importlib
import pathlib
import pkgutil
import re
import sys
import types
from collections.abc import Iterator

import jaxticket as jt

# Packages that are about their extras; all else is the core, and imports and runs without any.
EXTRAS = ("jaxticket.data", "jaxticket.models")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def run_readme(readme: pathlib.Path) -> None:
    """Run the README's blocks of code in their order, and compare the densities that they name."""
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    for block in blocks:
        exec(block, names)
    for params, mask, expected in (("params", names["mask"], 0.05), ("dense", names["winner"].mask, 0.125)):
        density = float(jt.density(names[params], mask))
        assert abs(density - expected) < 1e-3, density
    print(f"README: {len(blocks)} blocks")


def walk(package: types.ModuleType) -> Iterator[types.ModuleType]:
    """Yield a package and all modules of the core that lie in it."""
    yield package
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if info.name not in EXTRAS:
            module = importlib.import_module(info.name)
            yield from walk(module) if info.ispkg else [module]


def run_doctests() -> int:
    """Run every doctest of the core, and return how many of its examples fail."""
    results = [doctest.testmod(module, optionflags=FLAGS) for module in walk(jt)]
    print(f"doctests: {sum(r.attempted for r in results)} examples of {len(results)} modules")
    return sum(r.failed for r in results)


if __name__ == "__main__":
    print("package:", pathlib.Path(jt.__file__).parent)
    run_readme(pathlib.Path(sys.argv[1]))
    sys.exit(run_doctests())
