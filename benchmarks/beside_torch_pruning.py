"""Structured tickets beside Torch-Pruning (Fang et al., 2023), with the same weights, channels and fine-tuning.

Both remove half of the channels of every group of a trained network, by the magnitude of the group: `jaxticket`
with `structure.trace`, `group_magnitude` and `choose`, `Torch-Pruning` with its GroupNormPruner, on the same weights in
PyTorch; `random` is the control. All are fine-tuned by jaxticket, with the same steps and batches. Logits are compared
wherever weights change sides. Accuracies are in % on test images, before and after fine-tuning, with 95 % intervals
over seeds. MACs and params are those of one image, as `Groups` counts; (TP) is Torch-Pruning's own count, norms and
activations included. Times are ms at batch 1 and 64, of the jitted program and of eager PyTorch, in turns.
`kept alike` is the part of the channels on which both choose the same. Groups found are the sets of outputs of layers
that can be removed only together; of other networks they are counted without training. --torch-python names an
interpreter with torch and torch-pruning; without it jaxticket stands alone. CIFAR-10 comes from tfds or --data-dir.
"""

import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import _harness
import _torch_pruning_client as client
import _torch_weights
import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import data, diagnostics, filters, models, structure, training
from jaxticket.errors import InputError

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

RATIO, TUNED = 0.5, 0.5  # of the channels that go, and of a training that fine-tuning repeats
RANKINGS = ("local", "global", "isomorphic")
FLAGS = {
    "--data-dir": {"type": pathlib.Path, "help": "the folder of cifar10_jpeg.npz (default: the data of tfds)"},
    "--limit": {"type": int, "default": 2000, "help": "images of each split"},
    "--seeds": {"type": int, "default": 3},
    "--epochs": {"type": int, "nargs": 2, "default": (8, 8), "help": "of ResNet-20 and of VGG-16"},
    "--widths": {"type": int, "nargs": 2, "default": (16, 32), "help": "channels of their first layers"},
}


class Trained(NamedTuple):
    """The training of a network: functions of variables, {"params": …, "state": …}."""

    init: Callable[[jax.Array], Any]  # key -> variables
    fit: Callable[..., Any]  # (variables, key, first step) -> variables
    accuracy: Callable[[Any], float]  # in %
    steps: int
    x: np.ndarray  # images, of which the program is a function


def logits_of(model: models.Model) -> Callable[[Any, jax.Array], Any]:
    return lambda variables, x: model.apply(variables["params"], variables["state"], x, train=False, key=None)[0]


def synthetic(count: int) -> data.Dataset:
    """Return noise, for --quick."""
    split = lambda seed: data.Split(jax.random.normal(jax.random.key(seed), (count, 64)), jnp.arange(count) % 10)
    return data.Dataset(split(0), split(1), split(2))


def recipe(name: str, model: models.Model, dataset: data.Dataset, epochs: int) -> Trained:
    """Return the training of a network, by the recipe of the experiments on CIFAR-10."""
    from experiments.studies.structured.config import Config
    from experiments.training import problems

    sgd = {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 5e-4, "decay": "cosine"}
    augment = "crop-and-flip" if dataset.train.x.ndim == 4 else "none"
    config = Config(model=name, data="cifar10", augment=augment, epochs=epochs, batch_size=50, **sgd)
    basis = problems.basis(config, dataset=dataset, model=model)
    fit = training.fit(basis.recipe)

    def trained(variables: Any, key: jax.Array, start: int) -> Any:
        params, state = variables["params"], variables["state"]
        mask = filters.full_mask(params, filters.weights())
        fitted = fit(params, state, mask, key, step=start, steps=basis.steps - start)
        return {"params": fitted.params, "state": fitted.state}

    def accuracy(variables: Any) -> float:
        return 100 * basis.evaluate(variables["params"], variables["state"], splits=("test",))["test_accuracy"]

    init = lambda key: dict(zip(("params", "state"), basis.init(key), strict=True))
    return Trained(init, trained, accuracy, basis.steps, np.asarray(dataset.test.x[:64]))


class Result(NamedTuple):
    """A network after pruning, with one seed."""

    before: float
    after: float
    macs: int
    params: int
    variables: Any  # before fine-tuning


def compare(
    seed: int, kind: str, model: models.Model, own: Trained, peer: client.Peer | None
) -> tuple[dict[str, Result], list[dict[str, Any]]]:
    """Return the results by method, and the channels on which both sides agree by ranking."""
    keys = jax.random.split(jax.random.key(seed), 3)
    apply, dense = jax.jit(logits_of(model)), own.fit(own.init(keys[0]), keys[1], 0)
    groups = structure.trace(logits_of(model), dense, own.x[:1])
    scores = structure.group_magnitude(dense, groups)
    noise = {g.name: jax.random.uniform(jax.random.fold_in(keys[2], i), (g.width,)) for i, g in enumerate(groups)}
    kept = {"jaxticket": structure.choose(scores, groups, 1 - RATIO)}
    smaller, alike = {"dense": dense}, []
    if peer:
        peer.load("dense", kind, dense, own.x, apply(dense, own.x))
        for ranking in reversed(RANKINGS):  # local last: its network stays
            name = "Torch-Pruning"
            pruned, dropped = peer.prune("dense", name, dense, own.x, ratio=RATIO, ranking=ranking)
            theirs = _torch_weights.kept_channels(dropped, groups)
            ours = structure.choose(scores, groups, 1 - RATIO, ranking=ranking)
            alike.append({"ranking": ranking, **match(ours, theirs)})
            alike[-1] |= {"MMACs": groups.macs(ours) / 1e6, "MMACs Torch-Pruning": groups.macs(theirs) / 1e6}
        smaller[name], kept[name] = pruned, theirs
    kept["random"] = structure.choose(noise, groups, 1 - RATIO)
    for name in ("jaxticket", "random"):
        smaller[name] = structure.shrink(dense, kept[name], groups)
    if peer:
        for name in ("jaxticket", "Torch-Pruning", "random"):
            peer.load(name, kind, smaller[name], own.x, apply(smaller[name], own.x))
    results, start = {}, own.steps - round(TUNED * own.steps)
    for name, variables in smaller.items():
        tuned = variables if name == "dense" else own.fit(variables, keys[1], start)
        sizes = groups.macs(kept.get(name)), sum(x.size for x in jax.tree.leaves(variables["params"]))
        results[name] = Result(own.accuracy(variables), own.accuracy(tuned), *sizes, variables)
        print(f"seed {seed} {name}: {results[name].before:.1f} % before, {results[name].after:.1f} % after", flush=True)
    return results, alike


def match(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    same = {name: ours[name] == theirs[name] for name in ours}
    channels = np.concatenate(list(same.values()))
    return {"kept alike": float(channels.mean()), "groups alike": sum(s.all() for s in same.values())}


def measure_latencies(
    networks: Mapping[str, Any], model: models.Model, x: np.ndarray, peer: client.Peer | None, rounds: int
) -> dict[str, dict[str, float]]:
    """Return the ms of each network at each batch on both sides, measured in turns."""
    apply, timers = jax.jit(logits_of(model)), {}
    for batch in (1, len(x)):
        for name, variables in networks.items():
            call = lambda v=variables, some=jnp.asarray(x[:batch]): apply(v, some)
            timers[f"{name}|jax {batch}"] = lambda call=call: client.seconds_of(call)
            if peer:
                timers[f"{name}|torch {batch}"] = lambda name=name, some=x[:batch]: peer.seconds(name, some)
    medians = client.in_turns(timers, rounds=rounds)
    by_name: dict[str, dict[str, float]] = {name: {} for name in networks}
    for timer, seconds in medians.items():
        name, _, what = timer.partition("|")
        by_name[name][what] = 1e3 * seconds
    return by_name


def compare_seeds(
    network: str, kind: str, model: models.Model, own: Trained, peer: client.Peer | None, *, seeds: int, rounds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of a network, one a method, and those of the channels that were chosen, one a ranking."""
    runs, chosen = zip(*(compare(seed, kind, model, own, peer) for seed in range(seeds)), strict=True)
    times = measure_latencies({name: r.variables for name, r in runs[-1].items()}, model, own.x, peer, rounds)
    rows = []
    for name, result in runs[0].items():
        of = lambda field, name=name: [getattr(run[name], field) for run in runs]
        row = {
            "network": network,
            "method": name,
            "before": format_interval(of("before")),
            "after": format_interval(of("after")),
        }
        against = [run[name].after - run["Torch-Pruning"].after for run in runs] if peer else [0.0]
        row["over Torch-Pruning"] = format_interval(against) if peer and name not in ("dense", "Torch-Pruning") else "–"
        row |= {"MMACs": result.macs / 1e6, "params": result.params}
        if peer:
            counted = peer.count(name, own.x[:1])
            row |= {"MMACs (TP)": counted["macs"] / 1e6, "params (TP)": counted["params"]}
        rows.append(row | times[name])
    agreed = []
    for index, first in enumerate(chosen[0]):
        mean = lambda field, index=index: float(np.mean([c[index][field] for c in chosen]))
        means = {field: mean(field) for field in first if field != "ranking"}
        agreed.append({"network": network, "ranking": first["ranking"], **means})
    return rows, agreed


def format_interval(values: list[float]) -> str:
    interval = diagnostics.interval(values)
    return f"{interval.mean:.1f} ± {interval.half_width:.1f}"


def untrained(quick: bool) -> Iterator[tuple[str, str, models.Model, tuple[int, ...]]]:
    """Yield the name, the kind in PyTorch, the model and the shape of its input."""
    yield "LeNet-300-100", "lenet", models.lenet_300_100(), (1, 784)
    yield "VGG-16", "vgg", models.vgg_16_bn(width=4 if quick else 64), (1, 32, 32, 3)
    if quick:
        return
    yield "ResNet-20", "resnet", models.resnet_20(), (1, 32, 32, 3)
    yield "ResNet-56", "resnet", models.resnet_56(), (1, 32, 32, 3)
    yield "WRN-16-2", "wide_resnet", models.wide_resnet(depth=16, width=2), (1, 32, 32, 3)
    yield "ResNet-18", "resnet", models.resnet_18(), (1, 64, 64, 3)
    yield "ResNet-50", "resnet", models.resnet_50(), (1, 64, 64, 3)
    yield "EfficientNet-Lite0", "efficientnet", models.efficientnet_lite0(), (1, 64, 64, 3)
    yield "ViT-Tiny", "vit", models.vit_tiny(image_size=32, patch=8), (1, 32, 32, 3)


def count_groups(peer: client.Peer | None, quick: bool) -> list[dict[str, Any]]:
    """Return the groups that both find, and their channels."""
    rows = []
    for name, kind, model, shape in untrained(quick):
        params, state = jax.jit(model.init)(jax.random.key(0))
        variables, x = {"params": params, "state": state}, np.asarray(jax.random.normal(jax.random.key(1), shape))
        groups = structure.trace(logits_of(model), variables, x)
        row = {"network": name, "groups": len(groups), "channels": sum(g.width for g in groups)}
        if peer:
            peer.load(name, kind, variables, x, jax.jit(logits_of(model))(variables, x))
            theirs = {tuple(g["layers"]): g["width"] for g in peer.groups(name, x)}
            row |= {"Torch-Pruning": len(theirs), "its channels": sum(theirs.values())}
        rows.append(row)
    return rows


def networks(args: Any) -> Iterator[tuple[str, str, models.Model, Trained]]:
    """Yield the networks that are trained: name, kind, model and training."""
    if args.quick:
        model = models.lenet_300_100(features=64)
        yield "LeNet-300-100", "lenet", model, recipe("lenet_300_100", model, synthetic(100), 1)
        return
    try:
        dataset = data.cifar10(seed=0, folder=args.data_dir)
    except InputError as error:
        print(f"nothing is trained: {error}; --data-dir names the folder")
        return
    dataset = data.Dataset(*(data.limit(dataset._replace(train=s), args.limit, seed=0).train for s in dataset))
    resnet, vgg = models.resnet_20(width=args.widths[0]), models.vgg_16_bn(width=args.widths[1])
    yield "ResNet-20", "resnet", resnet, recipe("resnet_20", resnet, dataset, args.epochs[0])
    yield "VGG-16", "vgg", vgg, recipe("vgg_16_bn", vgg, dataset, args.epochs[1])


def main() -> None:
    args = _harness.arguments(__doc__, torch_python=True, more=FLAGS)
    busy = _harness.Busy()
    sizes = {"seeds": 1 if args.quick else args.seeds, "rounds": 2 if args.quick else 9}
    with client.start(args.torch_python) as peer:
        if peer is None:
            print("Torch-Pruning is left out: --torch-python names no interpreter that has it")
        tables = {"groups": count_groups(peer, args.quick), "accuracy": [], "choices": []}
        for network in networks(args):
            rows, choices = compare_seeds(*network, peer, **sizes)
            tables["accuracy"] += rows
            tables["choices"] += choices
    for name, table in tables.items():
        if table:
            print()
            _harness.report(f"beside_torch_pruning_{name}", table, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
