"""A record that says what no saved ticket does is refused, in words, before anything is allocated for it.

Every record here has the right checksums: they guard against damage, and whoever wrote a record can compute them.
"""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from jaxticket import tickets
from jaxticket.errors import CheckpointError, InputError
from jaxticket.tickets import Ticket, _archive
from tests.trust.tampering import change, entry_of, seal, seal_files, ticket

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUGE = 10**15


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "t"
    tickets.save(folder, ticket())
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "t")
    return tmp_path / "t"


def kernel(record):
    return entry_of(record, "params", "layers", 0, "kernel")


def key(record):
    return entry_of(record, "state", "rng")


def rename(record, value):
    kernel(record)["path"][-1][1] = value


RECORDS = {
    "a huge array": (lambda r: kernel(r).update(shape=[HUGE]), "promise .* bytes, but the files can hold"),
    "a huge product": (lambda r: kernel(r).update(shape=[2**20] * 3), "machine can address"),
    "a huge mask": (lambda r: entry_of(r, "mask", "layers", 0, "kernel").update(shape=[HUGE]), "promise"),
    "many keys": (lambda r: key(r).update(shape=[HUGE]), "promise"),
    "many arrays": (
        lambda r: r["entries"].extend(
            {"tree": "more", "path": [["index", i]], "shape": [10**8], "dtype": "float32"} for i in range(100)
        ),
        "promise",
    ),
    "a negative dimension": (lambda r: kernel(r).update(shape=[-1, 3]), r"\.shape is \[-1, 3\]"),
    "half a dimension": (lambda r: kernel(r).update(shape=[5.0, 3]), r"\.shape is \[5.0, 3\]"),
    "a boolean dimension": (lambda r: kernel(r).update(shape=[True, 3]), r"\.shape is \[True, 3\]"),
    "a dimension of many digits": (lambda r: kernel(r).update(shape=[10**400]), r"\.shape is"),
    "NaN for a dimension": (lambda r: kernel(r).update(shape=[float("nan")]), r"\.shape is \[nan\]"),
    "too many axes": (lambda r: kernel(r).update(shape=[1] * 33), "at most 32"),
    "no shape": (lambda r: kernel(r).pop("shape"), r"\.shape is None"),
    "many axes beside an empty one": (lambda r: kernel(r).update(shape=[0, 2**62, 2**62]), "machine can address"),
    "another shape than in the files": (lambda r: kernel(r).update(shape=[3, 5]), r"float32\[5, 3\] in the files"),
    "another type than in the files": (lambda r: kernel(r).update(dtype="int32"), r"float32\[5, 3\] in the files"),
    "no type of jax": (lambda r: kernel(r).update(dtype="object"), r"\.dtype is 'object'"),
    "Python's types": (lambda r: kernel(r).update(dtype="O8"), r"\.dtype is 'O8'"),
    "a type that is none": (lambda r: kernel(r).update(dtype=["float32"]), r"\.dtype is \['float32'\]"),
    "a key that is none": (lambda r: key(r).update(key_impl="os.system"), r"\.key_impl is 'os.system'"),
    "a key of another kind": (lambda r: key(r).update(key_impl="rbg"), r"\.dtype is 'key<fry>'"),
    "a list for a key": (lambda r: key(r).update(key_impl=["rbg"]), r"\.key_impl is \['rbg'\]"),
    "emptiness of another kind": (lambda r: entry_of(r, "state", "none").update(empty="set"), r"\.empty is 'set'"),
    "empty and an array": (lambda r: kernel(r).update(empty="none"), "either empty or an array"),
    "no entries": (lambda r: r.pop("entries"), "entries is None"),
    "an entry that is none": (lambda r: r["entries"].append(7), r"entries\[\d+\] is 7"),
    "no tree": (lambda r: kernel(r).update(tree=None), r"\.tree is None"),
    "no path": (lambda r: kernel(r).update(path="kernel"), r"\.path is 'kernel'"),
    "a step of another kind": (lambda r: kernel(r)["path"].append(["call", "f"]), r"\.path is \['call', 'f'\]"),
    "a name of no length": (lambda r: rename(r, 2**70), r"\.path is \['name', 1180591620717411303424\]"),
    "half a character": (lambda r: rename(r, "\ud800"), r"\.path is \['name', '\\ud800'\]"),
    "a name too long": (lambda r: rename(r, "x" * 5000), r"\.path is"),
    "a path too deep": (lambda r: kernel(r).update(path=[["name", "x"]] * 101), "at most 100 steps"),
    "a path twice": (lambda r: r["entries"].append(kernel(r)), "another path than those before"),
    "an array in an array": (
        lambda r: r["entries"].append({**kernel(r), "path": [*kernel(r)["path"], ["name", "x"]]}),
        "in a container of its kind",
    ),
    "an array where others are": (
        lambda r: r["entries"].append({**kernel(r), "path": kernel(r)["path"][:-1]}),
        "another path than those before",
    ),
    "a list with names": (lambda r: kernel(r)["path"][1].__setitem__(0, "name"), "in a container of its kind"),
    "names that cannot be sorted": (lambda r: rename(r, 3), "in a container of its kind"),
    "a list out of order": (lambda r: r["entries"].reverse(), "in order"),
    "other arrays than in the files": (lambda r: r["entries"].remove(kernel(r)), "is only in the files"),
    "a step before 0": (lambda r: r.update(step=-1), "step is -1"),
    "half a step": (lambda r: r.update(step=1.5), "step is 1.5"),
    "True for a step": (lambda r: r.update(step=True), "step is True"),
    "a step without end": (lambda r: r.update(step=float("inf")), "step is inf"),
    "a step of many digits": (lambda r: r.update(step=10**400), "step is 1000"),
    "a list for meta": (lambda r: r.update(meta=[]), r"meta is \[\]"),
    "NaN in meta": (lambda r: r.update(meta={"lr": float("nan")}), "meta holds NaN"),
    "a list for more": (lambda r: r.update(more=[]), r"more is \[\]"),
    "no versions": (lambda r: r.update(versions={"jax": 1}), r"versions\['jax'\] is 1"),
    "more kept than there are": (lambda r: r.update(density={"w": {"kept": 2, "of": 1}}), r"density\['w'\] is"),
    "a number for a density": (lambda r: r.update(density={"w": 0.5}), r"density\['w'\] is 0.5"),
    "no files": (lambda r: r.update(files=None), "files is None"),
    "a checksum that is none": (lambda r: r.update(files={"arrays/x": 3}), r"files\['arrays/x'\] is 3"),
    "a file above": (lambda r: r.update(files={"../secret": "0"}), r"files is '\.\./secret', .* inside the directory"),
    "a file from the root": (lambda r: r.update(files={"/etc/passwd": "0"}), "files is '/etc/passwd'"),
    "a file with NUL": (lambda r: r.update(files={"a\0b": "0"}), r"files is 'a\\x00b'"),
    "a file without a name": (lambda r: r.update(files={"": "0"}), "files is ''"),
    "a file that is the directory": (lambda r: r.update(files={"arrays": "0"}), "arrays is missing"),
    "an older version": (lambda r: r.update(version=0), "version is 0, but must be 1"),
    "no version": (lambda r: r.pop("version"), "version is None"),
    "True for a version": (lambda r: r.update(version=True), "version is True"),
    "a newer version": (lambda r: r.update(version=2), "upgrade jaxticket"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_no_ticket_has(folder, name):
    edit, words = RECORDS[name]
    change(folder, edit)
    tracemalloc.start()
    try:
        began = time.process_time()
        with pytest.raises(CheckpointError, match=words) as error:
            tickets.load(folder)
        assert time.process_time() - began < 2
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert len(str(error.value)) < 600 + len(str(folder))


TEXTS = {
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep in more": b'{"format": "jaxticket.ticket", "version": 1, "more": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "no UTF-8": b'{"format": "\xff\xfe"}',
    "empty": b"",
    "a number": b"1",
    "a number of many digits": b"1" * 100_000,
    "NaN": b"NaN",
    "NUL": b"\0" * 1000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_record(folder, name):
    (folder / _archive.RECORD).write_bytes(TEXTS[name])
    with pytest.raises(CheckpointError, match=r"is damaged|of another program") as error:
        tickets.load(folder)
    assert len(str(error.value)) < 600 + len(str(folder))


def test_a_record_larger_than_any(folder):
    with (folder / _archive.RECORD).open("ab") as stream:
        stream.truncate(2**40)  # takes no room on the disk
    with pytest.raises(CheckpointError, match="1099511627776 bytes"):
        tickets.load(folder)


@pytest.mark.parametrize("what", ["arrays", "arrays/state/d", "record.json", "arrays/_CHECKPOINT_METADATA"])
def test_links_are_refused(folder, tmp_path, what):
    (folder / what).rename(tmp_path / "elsewhere")
    (folder / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"is a link|is not a file, but a link"):
        tickets.load(folder)


@pytest.mark.parametrize("what", ["record.json", "arrays/_CHECKPOINT_METADATA"])
def test_pipes_are_refused_and_not_waited_for(folder, what):
    (folder / what).unlink()
    os.mkfifo(folder / what)
    with pytest.raises(CheckpointError, match="a device"):
        tickets.load(folder)


def store(folder, index):
    """The array in the files, to write to."""
    base = {"driver": "ocdbt", "base": f"file://{folder}/arrays/state/"}
    return {"driver": "zarr3", "kvstore": {**base, "path": f"{index}/"}}


@pytest.mark.parametrize(
    ("shape", "chunk", "words"), [((HUGE,), (16,), "in the files"), ((5, 3), (64, 64), "chunks of")]
)
def test_arrays_larger_in_the_files_than_in_the_record(folder, shape, chunk, words):
    record = json.loads((folder / _archive.RECORD).read_text())
    index = record["entries"].index(kernel(record))
    grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
    metadata = {"shape": shape, "chunk_grid": grid, "codecs": [{"name": "bytes"}]}
    tensorstore.open(
        {**store(folder, index), "metadata": {**metadata, "data_type": "float32"}}, create=True, delete_existing=True
    ).result()
    seal_files(folder)
    with pytest.raises(CheckpointError, match=words):
        tickets.load(folder)


def test_files_that_orbax_cannot_read(folder):
    for file in (folder / "arrays" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"nonsense")
    seal_files(folder)
    with pytest.raises(CheckpointError, match="its arrays cannot be read"):
        tickets.load(folder)


@pytest.mark.slow
def test_the_most_compressible_ticket_is_read(tmp_path):
    zeros = {f"w{i}": jnp.zeros((64, 1024)) for i in range(3)} | {"large": jnp.zeros(2**24)}
    tickets.save(tmp_path / "t", Ticket(zeros, jax.tree.map(lambda w: w == 0, zeros)))
    assert tickets.load(tmp_path / "t").params["large"].shape == (2**24,)


def test_arrays_of_64_bits_are_not_halved(tmp_path):
    with jax.enable_x64(True):
        tickets.save(tmp_path / "t", Ticket({"w": jnp.ones(2, jnp.float64)}, {"w": None}))
        assert tickets.load(tmp_path / "t").params["w"].dtype == np.float64
    with pytest.raises(CheckpointError, match=r"float64 arrays, .*jax_enable_x64"):
        tickets.load(tmp_path / "t")


def test_a_template_finds_its_arrays_by_path_in_any_order(tmp_path, saved):
    """An OrderedDict keeps the order of its making, a dict that of its names."""
    import collections

    like = collections.OrderedDict(b=jnp.zeros(2), a=jnp.zeros(2))
    tickets.save(tmp_path / "t", Ticket({"a": jnp.ones(2), "b": jnp.full(2, 2.0)}, {"a": None, "b": None}))
    loaded = tickets.load(tmp_path / "t", like=Ticket(like, {"a": None, "b": None}))
    np.testing.assert_array_equal(loaded.params["b"], [2.0, 2.0])


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    deep = functools.reduce(lambda tree, _: {"x": tree}, range(101), jnp.ones(2))
    for params, words in [(deep, "at most 100 steps"), ({"x" * 5000: jnp.ones(2)}, "steps such as")]:
        with pytest.raises(InputError, match=words):
            tickets.save(tmp_path / "t", Ticket(params, jax.tree.map(lambda _: None, params)))
    assert not (tmp_path / "t").exists()


LIMITED = """
import resource, sys
from jaxticket import tickets
from jaxticket.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_AS, (int(open("/proc/self/statm").read().split()[0]) * 4096 + 6 * 2**30,) * 2)
try:
    tickets.load(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("shape", [[HUGE], [2**31], [0, 2**58]])
def test_in_little_memory(folder, shape):
    change(folder, lambda record: kernel(record).update(shape=shape))
    run = subprocess.run([sys.executable, "-c", LIMITED, folder], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert str(folder) in run.stdout


def test_what_stays_as_it_was_is_read(folder, saved):
    """Sealing a ticket anew changes nothing by itself."""
    seal(folder, json.loads((folder / _archive.RECORD).read_text()))
    seal_files(folder)
    assert tickets.load(folder).step == tickets.load(saved).step == 100
