"""Calls, and the small network on which every row of the table works."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import filters, loops, reparam
from jaxticket.tickets import Ticket
from jaxticket.typing import Trained
from tests.conformance.bad_input.roles import Count, Filter, Fraction, MaskTree, Random, Role, Tree


class Call(NamedTuple):
    """A function, and arguments with which it works; `eager` where it needs values, not shapes."""

    function: Callable[..., Any]
    arguments: dict[str, Role]
    eager: bool = False


def call(function: Callable[..., Any], **arguments: Role) -> Call:
    return Call(function, arguments)


def on_host(function: Callable[..., Any], **arguments: Role) -> Call:
    return Call(function, arguments, eager=True)


def tree(scale: float = 1.0) -> dict[str, Any]:
    kernel = scale * (jnp.arange(24.0).reshape(4, 6) - 7.3)
    return {"a": {"bias": jnp.ones(6), "kernel": kernel}, "b": {"kernel": scale * jnp.ones((6, 4))}}


PARAMS, GRADS = tree(), tree(0.1)
MASK = {"a": {"bias": None, "kernel": jnp.arange(24).reshape(4, 6) % 2 == 0}, "b": {"kernel": jnp.ones((1, 4), bool)}}
OTHER = {"a": {"bias": None, "kernel": jnp.ones((4, 6), bool)}, "b": {"kernel": jnp.ones((6, 4), bool)}}
HALF = {"a": {"bias": None, "kernel": MASK["a"]["kernel"]}, "b": {"kernel": jnp.arange(24).reshape(6, 4) % 2 == 0}}
SOFT = {"a": {"bias": None, "kernel": jnp.ones((4, 6)) / 2}, "b": {"kernel": jnp.ones((1, 4)) / 2}}
SCORES = {"a": {"bias": None, "kernel": PARAMS["a"]["kernel"]}, "b": {"kernel": PARAMS["b"]["kernel"]}}
KEY = jax.random.key(0)
BATCHES = [{"x": jnp.ones((2, 4)), "y": jnp.zeros(2, int)}]


def network(params: Any, x: Any) -> jax.Array:
    x = x["x"] if isinstance(x, dict) else x
    return jax.nn.relu(x @ params["a"]["kernel"] + params["a"]["bias"][None]) @ params["b"]["kernel"]


def loss(params: Any, batch: Any) -> jax.Array:
    return jnp.mean(network(params, batch["x"]) ** 2)


U = Tree(PARAMS, used=True)
P, G, M, S = Tree(PARAMS), Tree(GRADS), MaskTree(MASK), Tree(SCORES)
OPTIONAL = MaskTree(MASK, optional=True)
ALONE, MASK_ALONE = Tree(PARAMS, paired=False), MaskTree(MASK, paired=False)
D, N = Fraction(0.5), Count(10)
K = Random(KEY)
W = Filter(filters.weights())


def step(plan: Any, params: Any, grads: Any = GRADS, key: Any = KEY) -> Any:
    """One update under a plan."""
    tx = jt.sparsify(optax.sgd(0.1, momentum=0.9), plan, key=key)
    params, state = jt.init(tx, params)
    return tx.update(grads, state, params)


def optimize(tx: Any, params: Any, grads: Any = GRADS) -> Any:
    return tx.update(grads, tx.init(params), params)


def realise(method: Any, params: Any, key: Any = KEY) -> Any:
    latent = method.init(params, key=key)
    return method.realise(latent, count=jnp.int32(3), key=KEY), method.mask(latent, count=jnp.int32(3))


def latent_of(method: Any) -> Any:
    return method.init(PARAMS, key=KEY)


def evolve(transform: Any, params: Any, mask: Any, grads: Any = GRADS, key: Any = KEY) -> Any:
    mask, state = transform.init(params, mask, key=key)
    aux = optax.sgd(0.1, momentum=0.9).init(PARAMS)
    return transform.update(mask, state, params=params, grads=grads, count=jnp.int32(0), key=key, aux=aux)


def train(params: Any, state: Any, mask: Any, key: Any, *, step: int, opt_state: Any) -> Trained:
    return Trained(params, state, {"accuracy": jnp.float32(1)})


def ticket(params: Any = PARAMS, mask: Any = MASK, **others: Any) -> Ticket:
    return Ticket(params, mask, **others)


def scale_of(path: str) -> str | None:
    return path.replace("kernel", "scale") if path.endswith("kernel") else None


def draw(key: Any) -> Any:
    return PARAMS, None


PRUNE = loops.prune_by()
TX = optax.adam(0.1)
PDP = reparam.edge_popup(0.5)
