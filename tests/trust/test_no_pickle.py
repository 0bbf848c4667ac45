"""Loading a ticket never executes code: nothing here can, and a ticket full of pickles does not."""

import ast
import contextlib
import os
import pathlib
import pickle
import shutil
import sys

import pytest

from jaxticket import tickets
from jaxticket.errors import CheckpointError
from tests.trust.tampering import change, seal_files, ticket

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = [file for name in ("jaxticket", "experiments", "benchmarks") for file in sorted((ROOT / name).rglob("*.py"))]
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml", "ctypes"}
CALLS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"np", "numpy", "jnp", "torch"}

# Orbax closes its loop of events before it has thrown away what failed in it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def suspicious(source: str) -> list[str]:
    """What in a module could turn bytes into code, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [(node.lineno, name) for name in names if name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.append((node.lineno, node.func.id))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
            if isinstance(node.func.value, ast.Name) and node.func.value.id in LOADERS and not safe:
                found.append((node.lineno, ast.unparse(node.func)))
    return [f"line {line}: {name}" for line, name in found]


def test_no_module_can_turn_bytes_into_code():
    assert len(SOURCES) > 100
    assert {str(file): found for file in SOURCES if (found := suspicious(file.read_text()))} == {}


DANGEROUS = """
import pickle
from cloudpickle import loads
import dill.source as d
def f(): import yaml
eval('1')
exec(text)
np.load(file)
jnp.load(file, allow_pickle=True)
torch.load(file)
__import__('os')
"""


@pytest.mark.parametrize("source", DANGEROUS.strip().splitlines())
def test_what_could_is_found(source):
    assert suspicious(source)


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


UNPICKLED: list[str] = []  # what pickle looked up while LISTENING
LISTENING = [False]


def listen(event: str, arguments: tuple[object, ...]) -> None:
    if LISTENING[0] and event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec"):
        UNPICKLED.append(f"{event}{arguments}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    sys.addaudithook(listen)
    folder = tmp_path_factory.mktemp("saved") / "t"
    tickets.save(folder, ticket())
    return folder


def load(folder):
    """Loads it if it can be loaded, and tells what was executed meanwhile."""
    UNPICKLED.clear()
    LISTENING[0] = True
    with contextlib.suppress(CheckpointError):
        tickets.load(folder)
    LISTENING[0] = False
    return UNPICKLED


def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path, saved):
    text = pickle.dumps(Bomb(tmp_path / "mark"))
    LISTENING[0] = True
    pickle.loads(text)
    LISTENING[0] = False
    assert (tmp_path / "mark").exists()
    assert UNPICKLED


@pytest.mark.parametrize("sealed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_bomb_in_every_file(tmp_path, saved, sealed):
    """Also with checksums that fit: they tell damage, not malice."""
    bomb = pickle.dumps(Bomb(tmp_path / "mark"))
    names = [file.relative_to(saved) for file in sorted(saved.rglob("*")) if file.is_file()]
    assert len(names) > 5
    for number, name in enumerate(names):
        folder = shutil.copytree(saved, tmp_path / f"t{number}")
        (folder / name).write_bytes(bomb)
        if sealed and name.name != "record.json":
            seal_files(folder)
        assert load(folder) == []
    assert not (tmp_path / "mark").exists()


def test_a_bomb_in_every_string(tmp_path, saved):
    folder = shutil.copytree(saved, tmp_path / "t")
    bomb = pickle.dumps(Bomb(tmp_path / "mark"), protocol=0).decode()
    code = f"__import__('os').mkdir({str(tmp_path / 'mark')!r})"
    change(
        folder, lambda record: record.update(meta={bomb: code, code: bomb}, more={code: bomb}, versions={code: bomb})
    )
    assert load(folder) == []
    assert tickets.load(folder).meta[bomb] == code
    for field in ("tree", "dtype", "empty"):
        change(folder, lambda record: record["entries"][0].update({field: code}))
        assert load(folder) == []
    assert not (tmp_path / "mark").exists()
