"""Sparse recurrent networks: weights below a percentile of a part go, or layers are connected like a graph."""

import numpy as np

GATES = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}
PARTS = {"both": ("ih", "hh"), "ih": ("ih",), "hh": ("hh",)}
WIDTHS, TOKENS, EXAMPLES, TIME = (4, 4), 7, 3, 5
EDGES = ((0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4), (3, 5))
ABOUT = {
    "method": "sparse_rnn",
    "paper": "Darji, 2024",
    "repository": "harshildarji/thesis",
    "commit": "062bcba",
    "settings": {"sparsity": 0.75},
    "deviations": [
        "A mask of a graph is tiled over gates. The code repeats its rows, although gates are blocks of rows.",
        "Strings are equally long, so that the last step is the last token.",
    ],
}


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(1, TOKENS, (EXAMPLES, TIME))


def draw(cell: str, sizes: list[tuple[str, int, int]]) -> dict[str, dict[str, np.ndarray]]:
    """Return the weights and biases of layers (name, inputs, units), with rows by gate and unit, as torch has them."""
    generator = np.random.default_rng(1)
    rows = lambda units, *columns: generator.uniform(-1, 1, (GATES[cell] * units, *columns))
    return {
        name: {"ih": rows(units, inputs), "hh": rows(units, units), "b_ih": rows(units), "b_hh": rows(units)}
        for name, inputs, units in sizes
    }


def stacked() -> list[tuple[str, int, int]]:
    return [("layer1", WIDTHS[0], WIDTHS[0]), ("layer2", *WIDTHS)]


def connected() -> list[tuple[str, int, int]]:
    """Return the layers that the edges make: {0, 1}, {2, 3}, {4, 5}, and a skip for the edge 0-4."""
    return [("layer1", 2, 2), ("layer2", 2, 2), ("layer3", 2, 2), ("skip1_3", 2, 2)]


def rounds(sparsity: float) -> list[dict]:
    made = []
    for cell in GATES:
        for part, kinds in PARTS.items():
            layers = draw(cell, stacked())
            pooled = np.concatenate([np.abs(layer[kind]).ravel() for layer in layers.values() for kind in kinds])
            threshold, masks = np.percentile(pooled, 100 * sparsity), {}
            for name, layer in layers.items():
                for kind in kinds:
                    masks[f"{name} {kind}"] = mask = ~(np.abs(layer[kind]) < threshold)
                    layer[kind] = layer[kind] * mask
            made.append({"mask": masks, "outputs": {f"{cell} {part}": run(cell, layers, WIDTHS[0])}})
        layers, masks = draw(cell, connected()), of_graph(GATES[cell])
        for name, mask in masks.items():
            layers[name]["ih"] = layers[name]["ih"] * mask
        made.append(
            {"mask": {f"{n} ih": m for n, m in masks.items()}, "outputs": {f"{cell} graph": run(cell, layers, 2)}}
        )
    return made


def of_graph(gates: int) -> dict[str, np.ndarray]:
    """Return a mask (gates · targets, sources) for each pair of layers."""
    nodes = {"layer1": (0, 1), "layer2": (2, 3), "layer3": (4, 5)}
    pairs = {"layer2": ("layer1", "layer2"), "layer3": ("layer2", "layer3"), "skip1_3": ("layer1", "layer3")}
    masks = {}
    for name, (source, target) in pairs.items():
        mask = np.zeros((2, 2), bool)
        for row, high in enumerate(nodes[target]):
            for column, low in enumerate(nodes[source]):
                mask[row, column] = (low, high) in EDGES
        masks[name] = np.tile(mask, (gates, 1))
    return masks


def run(cell: str, layers: dict, width: int) -> np.ndarray:
    """Return the last layer's hidden state after the last token."""
    embedding = np.random.default_rng(2).standard_normal((TOKENS, width))
    results = {0: embedding[tokens()]}
    for number in range(1, 1 + sum(name.startswith("layer") for name in layers)):
        results[number] = sequence(cell, layers[f"layer{number}"], results[number - 1])
        for name, layer in layers.items():
            if name.startswith("skip") and name.endswith(f"_{number}"):
                results[number] = results[number] + sequence(cell, layer, results[int(name[4])])
    return results[max(results)][:, -1]


def sequence(cell: str, layer: dict, x: np.ndarray) -> np.ndarray:
    sigmoid = lambda values: 1 / (1 + np.exp(-values))
    h = c = np.zeros((len(x), layer["hh"].shape[1]))
    outputs = []
    for t in range(x.shape[1]):
        i_gate, h_gate = x[:, t] @ layer["ih"].T + layer["b_ih"], h @ layer["hh"].T + layer["b_hh"]
        if cell in ("tanh", "relu"):
            h = np.tanh(i_gate + h_gate) if cell == "tanh" else np.maximum(i_gate + h_gate, 0)
        elif cell == "gru":
            (i_r, i_z, i_n), (h_r, h_z, h_n) = np.split(i_gate, 3, 1), np.split(h_gate, 3, 1)
            new = np.tanh(i_n + sigmoid(i_r + h_r) * h_n)
            h = new + sigmoid(i_z + h_z) * (h - new)
        else:
            i, f, g, o = np.split(i_gate + h_gate, 4, 1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)
