"""Torch-Pruning on networks that were trained elsewhere: a peer that answers requests.

Run by an interpreter with torch and torch-pruning: python _torch_pruning_peer.py. Each line of its standard input is a
request in JSON, and each line of its standard output the answer. Networks stay here under a name; arrays lie in files.
"""

import copy
import json
import sys
import time
from typing import Any

import _torch_networks
import numpy as np
import torch
import torch_pruning
from torch import nn

KEPT: dict[str, nn.Module] = {}  # the networks by name
OUTPUT = "layers.output"  # the classifier, whose outputs stay


def load(name: str, kind: str, file: str) -> dict[str, Any]:
    """Build a network, and return the largest difference of its logits from those in the file, and their size."""
    arrays = dict(np.load(file, allow_pickle=False))
    inputs, logits = (torch.tensor(arrays.pop(key)) for key in ("inputs", "logits"))
    KEPT[name] = network = _torch_networks.build(kind, arrays)
    with torch.no_grad():
        difference = network(inputs) - logits
    return {"difference": difference.abs().max().item(), "size": logits.abs().max().item()}


def groups(name: str, shape: list[int]) -> dict[str, Any]:
    """Return, for each group that is found, the layers whose outputs it couples, and its width."""
    network = copy.deepcopy(KEPT[name])
    graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=torch.zeros(shape))
    names, ignored = names_of(network), [network.get_submodule(OUTPUT)]
    coupled = graph.get_all_groups(ignored_layers=ignored)
    return {"groups": [{"layers": sorted(outputs(graph, g, names)), "width": len(g[0].idxs)} for g in coupled]}


def prune(name: str, into: str, shape: list[int], ratio: float, ranking: str, file: str) -> dict[str, Any]:
    """Prune a copy by the group norm, save its arrays, and return the outputs that each layer lost."""
    KEPT[into] = network = copy.deepcopy(KEPT[name])
    example = torch.zeros(shape)
    pruner = torch_pruning.pruner.GroupNormPruner(
        network,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=ranking != "local",
        isomorphic=ranking == "isomorphic",
        ignored_layers=[network.get_submodule(OUTPUT)],
    )
    names, dropped = names_of(network), {}
    for group in pruner.step(interactive=True):
        dropped |= outputs(pruner.DG, group, names)
        group.prune()
    np.savez(file, **{key.removeprefix("layers."): x.numpy() for key, x in network.state_dict().items()})
    return {"dropped": dropped}


def count(name: str, shape: list[int]) -> dict[str, Any]:
    """Return what Torch-Pruning counts: multiply-adds, norms and activations among them, and parameters."""
    macs, params = torch_pruning.utils.count_ops_and_params(KEPT[name], torch.zeros(shape))
    return {"macs": int(macs), "params": int(params)}


@torch.no_grad()
def seconds(name: str, shape: list[int]) -> dict[str, Any]:
    """Return the seconds of a call, after one that warms up."""
    network, x = KEPT[name], torch.zeros(shape)
    network(x)
    begin = time.perf_counter()
    network(x)
    return {"seconds": time.perf_counter() - begin}


def names_of(network: nn.Module) -> dict[nn.Module, str]:
    return {module: name.removeprefix("layers.") for name, module in network.named_modules()}


def outputs(graph: Any, group: Any, names: dict[nn.Module, str]) -> dict[str, list[int]]:
    """Return the convolutions and linear layers of a group whose outputs it holds, and which of them."""
    return {
        names[dep.target.module]: sorted(int(i) for i in idxs)
        for dep, idxs in group
        if isinstance(dep.target.module, nn.Conv2d | nn.Linear) and graph.is_out_channel_pruning_fn(dep.handler)
    }


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # the library prints too
    actions = {action.__name__: action for action in (load, groups, prune, count, seconds)}
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(actions[request.pop("action")](**request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
