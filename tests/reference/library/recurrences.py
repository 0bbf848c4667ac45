"""The library's side of the trace of sparse recurrent networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from jaxticket import filters, models, scopes, scores
from jaxticket.methods.recurrent.random_structure import layer_graph, structure_mask
from tests.reference.published import sparse_rnn as published

KINDS = {"ih": "input", "hh": "recurrent"}


def sparse_rnn(sparsity):
    made = []
    for cell in published.GATES:
        for part, kinds in published.PARTS.items():
            params = to_params(cell, published.stacked(), published.WIDTHS[0])
            where = filters.match(f"^layer\\d/({'|'.join(KINDS[kind] for kind in kinds)})/kernel$")
            mask = jt.select(scores.magnitude(params), 1 - sparsity, scope=scopes.tree(), where=where)
            made.append(seen(f"{cell} {part}", compiled(cell, published.WIDTHS), params, mask))
        graph = layer_graph(published.EDGES)
        params = to_params(cell, published.connected(), graph.widths[0])
        run = compiled(cell, graph.widths, graph.skips)
        made.append(seen(f"{cell} graph", run, params, structure_mask(graph, params)))
    return made


@functools.cache
def compiled(cell, widths, skips=()):
    model = models.recurrent(cell=cell, widths=widths, skips=skips, vocabulary=published.TOKENS)
    return jax.jit(lambda params, x: model.apply(params, None, x, train=False, key=None)[0])


def to_params(cell, sizes, width):
    """The parameters with the weights of the transcription; the outputs are the last hidden state."""
    embedding = np.random.default_rng(2).standard_normal((published.TOKENS, width))
    params = {"token": {"embedding": embedding}, "output": {"kernel": np.eye(sizes[-1][2])}}
    params["output"]["bias"] = np.zeros(sizes[-1][2])
    for name, layer in published.draw(cell, sizes).items():
        params[name] = {
            KINDS[kind]: {
                "kernel": layer[kind].reshape(published.GATES[cell], -1, layer[kind].shape[1]).transpose(2, 0, 1),
                "bias": layer[f"b_{kind}"].reshape(published.GATES[cell], -1),
            }
            for kind in KINDS
        }
    return {n: {m: _float(leaf) for m, leaf in layer.items()} for n, layer in params.items()}


def _float(leaf):
    return {n: _float(x) for n, x in leaf.items()} if isinstance(leaf, dict) else jnp.asarray(leaf, jnp.float32)


def seen(name, run, params, mask):
    logits = run(jt.apply_mask(params, mask), jnp.asarray(published.tokens()))
    masks = {}
    for layer, leaves in mask.items():
        for kind, own in KINDS.items():
            kept = leaves.get(own, {}).get("kernel")
            if kept is not None:
                whole = np.broadcast_to(kept, params[layer][own]["kernel"].shape)
                masks[f"{layer} {kind}"] = whole.transpose(1, 2, 0).reshape(-1, whole.shape[0])
    return {"mask": masks, "outputs": {name: logits}}


LIBRARY = {"sparse_rnn": sparse_rnn}
