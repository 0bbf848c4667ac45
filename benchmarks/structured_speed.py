"""The time of networks whose channels were removed, beside the dense one.

Channels go by the magnitude of their group, the same fraction of every group, until 20 % of the parameters stay; kept
widths are multiples of 8. removed and MACs: the shares of the parameters and of the multiply-adds that went. masked:
the dense network with zeros in their place. replayed: `structure.replay` at the smaller sizes. direct: the network
built at the smaller widths. Each is given over the dense one; saving is 1 − replayed, and over direct is replayed /
direct, whose goal is 1.03 at most. again: the direct build compiled a second time, over the first: what the measurement
itself is good for. same: whether the compiled programs of replayed and direct are the same, instruction by instruction.
Structure-LTH (Chen et al., 2022) reports savings of 60 to 65 % at 58 to 80 % of structural sparsity, on CUDA.
"""

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import _harness
import jax

import jaxticket as jt
from jaxticket import models, structure

KEPT, MULTIPLE = 0.2, 8


def networks(quick: bool) -> Iterator[tuple[str, models.Model, int]]:
    """Yield the networks and the size of their images."""
    if quick:
        yield "Conv-2", models.conv_2(width=16), 32
        return
    yield "ResNet-18", models.resnet_18(classes=10, small_images=True), 32
    yield "VGG-16", models.vgg_16_bn(), 32
    yield "ViT-Tiny", models.vit_tiny(), 224
    yield "EfficientNet-Lite0", models.efficientnet_lite0(), 224


def programs(model: models.Model, x: jax.Array) -> tuple[dict[str, Callable[[], Any]], dict[str, float], bool]:
    """Return the calls that are compared, the shares that were removed, and `same`."""
    params, state = model.init(jax.random.key(0))
    variables = {"params": params, "state": state}

    def apply(variables: Any, x: jax.Array) -> Any:
        return model.apply(variables["params"], variables["state"], x, train=False, key=None)

    pick = operator.itemgetter(0)
    groups = structure.trace(apply, variables, x, outputs=pick)
    budget = structure.Budget(KEPT, groups.params)
    kept = structure.choose(structure.group_magnitude(variables, groups), groups, budget, multiple=MULTIPLE)
    smaller = structure.shrink(variables, kept, groups)
    masked = jt.apply_mask(variables, structure.spread(kept, groups, variables))

    def built(variables: Any) -> Any:
        return jax.jit(lambda v, x: apply(v, x)[0]).lower(variables, x).compile()

    dense, direct, again = built(variables), built(smaller), built(smaller)
    replayed = jax.jit(lambda v, x: structure.replay(apply, kept, groups, outputs=pick)(v, x)[0])
    replayed = replayed.lower(smaller, x).compile()
    calls = {
        "dense": lambda: dense(variables, x),
        "masked": lambda: dense(masked, x),
        "replayed": lambda: replayed(smaller, x),
        "direct": lambda: direct(smaller, x),
        "again": lambda: again(smaller, x),
    }
    removed = {"removed": 1 - groups.params(kept) / groups.params(), "MACs": 1 - groups.macs(kept) / groups.macs()}
    return calls, removed, instructions(replayed) == instructions(direct)


def instructions(program: Any) -> Counter[str]:
    """Return how often each instruction occurs in a compiled program, without names and places in the source."""
    lines = re.sub(r"%[\w.\-]+|, metadata=\{[^}]*\}|,? *$", "", program.as_text(), flags=re.MULTILINE).splitlines()
    return Counter(line.strip() for line in lines if " = " in line)


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    rows = []
    for name, model, size in networks(args.quick):
        for batch in (1, 4) if args.quick else (1, 64):
            x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))
            calls, removed, same = programs(model, x)
            rounds, seconds = (3, 0.0) if args.quick else (15, 20.0)
            times = _harness.measure(calls, rounds=rounds, seconds=seconds)
            dense, direct = times["dense"], times["direct"]
            rows.append(
                {
                    "network": name,
                    "batch": batch,
                    **removed,
                    "dense ms": 1e3 * dense,
                    **{call: times[call] / dense for call in ("masked", "replayed", "direct")},
                    "saving": 1 - times["replayed"] / dense,
                    "over direct": times["replayed"] / direct,
                    "again": times["again"] / direct,
                    "same": same,
                }
            )
    _harness.report("structured_speed", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
