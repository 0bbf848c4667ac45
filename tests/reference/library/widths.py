"""The library's side of the trace of a search for widths and depths."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.methods.channels import tas
from tests.reference.published import tas as published

NET = tas.residual_supernet(
    width=published.WIDTH, blocks=published.BLOCKS, shape=published.SHAPE, classes=published.CLASSES
)
APPLY = jax.jit(NET.apply)


def rows(values: list, fill: float) -> jax.Array:
    """Stack rows, whose ends are filled up."""
    longest = max(map(len, values))
    return jnp.stack([jnp.asarray(np.pad(row, (0, longest - len(row)), constant_values=fill)) for row in values])


def search(temperatures: list[float], tolerance: float, fraction: float) -> list[dict]:
    full = NET.cost([row[-1] for row in NET.widths], [row[-1] for row in NET.depths])
    seen = []
    for number, temperature in enumerate(temperatures):
        given = published.numbers(number)
        logits = tas.Logits(rows(given["widths"], 9.0), rows(given["depths"], 9.0))  # unused ends must not count
        noise = [-jnp.log(rows(given[name], 1.0)) for name in ("width_noise", "picks", "depth_noise")]
        with mock.patch("jax.random.gumbel", side_effect=noise):
            draw = tas.draw(logits, NET.widths, NET.depths, key=jax.random.key(0), temperature=temperature)
        weights, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (given["weights"], given["x"]))
        expected = NET.expected(tas.expect_widths(logits.widths, NET.widths), tas.alive(logits.depths, NET.depths))
        widths, depths = tas.choose(NET, logits, fraction=fraction)
        now = NET.cost(widths, depths)
        penalty = tas.penalise(expected / 1e6, now, target=fraction * full, tolerance=tolerance * full)
        seen.append(
            {
                "outputs": {"logits": APPLY(weights, x, draw), "weights": draw.weights},
                "cost": {"expected": expected / 1e6, "now": now / 1e6, "penalty": penalty},
                "living": {"widths": list(widths), "depths": list(depths)},
            }
        )
    return seen


LIBRARY = {"tas": search}
