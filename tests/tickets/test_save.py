"""Saved tickets come back bit by bit, or not at all."""

import json
import shutil
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import tickets
from jaxticket.errors import CheckpointError, InputError, MissingExtraError
from jaxticket.files import PARTIAL
from jaxticket.tickets import Ticket, _archive


class Moments(NamedTuple):
    mean: dict
    count: jax.Array


@pytest.fixture
def ticket():
    params = {
        "layers": [
            {"kernel": jnp.arange(15.0).reshape(5, 3), "bias": jnp.zeros(3)},
            {"kernel": jnp.ones((3, 2), jnp.bfloat16)},
        ],
        "empty": {},
    }
    mask = {
        "layers": [
            {"kernel": jnp.arange(15).reshape(5, 3) % 2 == 0, "bias": None},
            {"kernel": jnp.array([[True, False]])},
        ],
        "empty": {},
    }
    opt_state = (Moments({"a": jnp.ones(2)}, jnp.int32(7)), optax.EmptyState())
    state = {"rng": jax.random.key(3), "none": None, "nothing": jnp.zeros((0, 4))}
    return Ticket(params, mask, 100, state, opt_state, {"seed": 1, "data": "digits", "levels": (1, 2)})


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_round_trip_with_a_template(tmp_path, ticket):
    tickets.save(tmp_path / "t", ticket)
    assert_same(tickets.load(tmp_path / "t", like=ticket), ticket)
    assert_same(tickets.load(tmp_path / "t", like=jax.eval_shape(lambda: ticket)), ticket)


def test_without_a_template_dicts_lists_and_none_come_back(tmp_path, ticket):
    tickets.save(tmp_path / "t", ticket)
    loaded = tickets.load(tmp_path / "t")
    assert_same((loaded.params, loaded.mask, loaded.state), (ticket.params, ticket.mask, ticket.state))
    assert (loaded.step, loaded.meta) == (ticket.step, ticket.meta)
    assert_same(loaded.opt_state, [{"mean": {"a": jnp.ones(2)}, "count": jnp.int32(7)}, []])


def test_a_bare_array_and_no_states(tmp_path):
    ticket = Ticket(jnp.arange(3.0), jnp.array([True, False, True]))
    tickets.save(tmp_path / "t", ticket)
    assert_same(tickets.load(tmp_path / "t"), ticket)


def test_masks_take_one_bit_a_weight(tmp_path):
    size = 2**20
    mask = jax.random.bernoulli(jax.random.key(0), 0.5, (size,))  # not compressible
    tickets.save(tmp_path / "t", Ticket(jnp.zeros(size), mask))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 1.2 * size / 8


def test_describe_tells_provenance_without_arrays(tmp_path, ticket):
    tickets.save(tmp_path / "t", ticket)
    about = tickets.describe(tmp_path / "t")
    assert about["meta"] == {"seed": 1, "data": "digits", "levels": [1, 2]}
    assert about["step"] == 100
    assert about["versions"]["jax"] == jax.__version__
    assert about["density"] == {"layers/0/kernel": {"kept": 8, "of": 15}, "layers/1/kernel": {"kept": 3, "of": 6}}


def test_loading_onto_shardings(tmp_path):
    mesh = jax.make_mesh((4,), ("x",), devices=jax.devices()[:4])
    rows = jax.NamedSharding(mesh, jax.P("x", None))
    ticket = Ticket({"w": jnp.arange(8.0).reshape(4, 2), "b": jnp.ones(3)}, {"w": jnp.eye(4, 2) > 0, "b": None})
    tickets.save(tmp_path / "t", ticket)
    placed = tickets.load(
        tmp_path / "t",
        like=ticket,
        shardings=Ticket({"w": rows, "b": jax.NamedSharding(mesh, jax.P())}, rows),
    )
    assert_same(placed, ticket)
    assert placed.params["w"].sharding == rows
    assert placed.mask["w"].sharding == rows
    assert len(placed.params["b"].devices()) == 4


def test_like_is_checked(tmp_path):
    ticket = Ticket({"w": jnp.ones((2, 3))}, {"w": jnp.ones((2, 3), bool)})
    tickets.save(tmp_path / "t", ticket)
    for like, words in [
        (Ticket({"w": jnp.ones((3, 2))}, ticket.mask), r"params/w is float32\[2, 3\] .* float32\[3, 2\] in like"),
        (Ticket({"w": jnp.ones((2, 3), jnp.bfloat16)}, ticket.mask), "bfloat16"),
        (Ticket({"v": jnp.ones((2, 3))}, ticket.mask), "params/v is absent"),
        (Ticket(ticket.params, {"w": None}), "mask/w is bool"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            tickets.load(tmp_path / "t", like=like)


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path, ticket, monkeypatch):
    tickets.save(tmp_path / "t", ticket)
    with pytest.raises(CheckpointError, match="exists; delete it"):
        tickets.save(tmp_path / "t", ticket)
    monkeypatch.setattr(_archive, "_digests", lambda _: 1 / 0)  # dies between the arrays and the record
    with pytest.raises(ZeroDivisionError):
        tickets.save(tmp_path / "u", ticket)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_saving_twice_writes_the_same_record(tmp_path, ticket):
    for name in ("t", "u"):
        tickets.save(tmp_path / name, ticket)
    assert tickets.describe(tmp_path / "t") == tickets.describe(tmp_path / "u")


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match="params/w is a str"):
        tickets.save(tmp_path / "t", Ticket({"w": "text"}, {"w": None}))
    with pytest.raises(InputError, match=r"meta=.*not JSON"):
        Ticket({}, {}, meta={"f": jnp.ones(2)})
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        tickets.save(tmp_path / "file" / "t", Ticket({}, {}))


def test_without_orbax(tmp_path, ticket, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(MissingExtraError, match=r"jaxticket\[io\]"):
        tickets.save(tmp_path / "t", ticket)
    assert not list(tmp_path.iterdir())


def largest_file(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(folder):
    file = largest_file(folder / "arrays")
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(folder):
    file = largest_file(folder / "arrays")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove_a_file(folder):
    largest_file(folder / "arrays").unlink()


def truncate_the_record(folder):
    text = (folder / _archive.RECORD).read_text()
    (folder / _archive.RECORD).write_text(text[: len(text) // 2])


def alter_the_record(folder):
    text = (folder / _archive.RECORD).read_text()
    (folder / _archive.RECORD).write_text(text.replace('"step": 100', '"step": 101'))


def remove_the_record(folder):
    (folder / _archive.RECORD).unlink()


def make_it_foreign(folder):
    (folder / _archive.RECORD).write_text('{"format": "other"}')


def make_it_newer(folder):
    record = json.loads((folder / _archive.RECORD).read_text())
    (folder / _archive.RECORD).write_text(json.dumps({**record, "version": 99}))


def remove_it(folder):
    shutil.rmtree(folder)


def leave_it_half_written(folder):
    """What a process that was killed before the rename leaves."""
    remove_the_record(folder)
    folder.rename(folder.with_name(f".{folder.name}.abc{PARTIAL}"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "differs from what was saved"),
        (flip_a_bit, "differs from what was saved"),
        (remove_a_file, "is missing"),
        (truncate_the_record, "is damaged"),
        (alter_the_record, "is damaged"),
        (remove_the_record, "not a saved ticket"),
        (make_it_foreign, "of another program"),
        (make_it_newer, "upgrade jaxticket"),
        (remove_it, "no such directory"),
        (leave_it_half_written, "no such directory"),
    ],
)
def test_damage_is_refused_in_one_line(tmp_path, ticket, damage, words):
    tickets.save(tmp_path / "t", ticket)
    damage(tmp_path / "t")
    with pytest.raises(CheckpointError, match=words) as error:
        tickets.load(tmp_path / "t")
    assert "\n" not in str(error.value)
    assert str(tmp_path / "t") in str(error.value)
