"""TAS: the forward pass of a supernet with two sampled widths a convolution, its expected cost, and what it chooses."""

import numpy as np

WIDTH, BLOCKS, SHAPE, CLASSES, EXAMPLES = 4, 2, (6, 6, 2), 3, 5
ABOUT = {
    "paper": "Dong and Yang, 2019",
    "repository": "D-X-Y/AutoDL-Projects",
    "commit": "f46486e",
    "settings": {"temperatures": [5.0, 0.5], "tolerance": 0.05, "fraction": 0.5},
    "deviations": [
        "Rows of logits have as many columns as a convolution has different widths, in the place of eight.",
        "Shortcuts stride, in the place of averaging 2 × 2 pixels.",
        "The cost of the likeliest network is that of the network as it is searched, whose stream is as wide as its "
        "widest block so far and which ends stages at their depth, without a convolution where widths differ.",
    ],
}
STAGES = [WIDTH, 2 * WIDTH, 4 * WIDTH]
EPSILON, MILLION = 1e-5, 1e6


def get_width_choices(n_out: int) -> list[int]:
    return sorted({int(n_out * i) for i in [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]})


def get_depth_choices(n_depth: int) -> list[int]:
    if n_depth in (2, 3):
        return list(range(1, n_depth + 1))
    choices = list(range(1, n_depth + 1, 2))
    return choices if choices[-1] == n_depth else [*choices, n_depth]


RANGES = [get_width_choices(WIDTH), *(get_width_choices(w) for w in STAGES for _ in range(2 * BLOCKS))]
DEPTHS = get_depth_choices(BLOCKS)


def numbers(number: int) -> dict:
    """Return weights, examples, logits and random numbers of a round, all by its number."""
    generator = np.random.default_rng(number)
    draw = lambda *shape: generator.normal(size=shape)

    def layer(size: int, inputs: int, outputs: int) -> dict:
        count = len(get_width_choices(outputs))
        norm = {"scale": 1 + 0.3 * draw(count, outputs), "bias": 0.3 * draw(count, outputs)}
        return {"conv": {"kernel": draw(size, size, inputs, outputs) / size}, "norm": norm}

    weights: dict = {"stem": layer(3, SHAPE[2], WIDTH)}
    inputs = WIDTH
    for stage, width in enumerate(STAGES, start=1):
        weights[f"stage{stage}"] = {}
        for block in range(1, BLOCKS + 1):
            own = {"layer1": layer(3, inputs, width), "layer2": layer(3, width, width)}
            if stage > 1 and block == 1:
                own["shortcut"] = layer(1, inputs, width)
            weights[f"stage{stage}"][f"block{block}"], inputs = own, width
    weights["output"] = {"kernel": draw(inputs, CLASSES), "bias": draw(CLASSES)}
    return {
        "weights": weights,
        "x": draw(EXAMPLES, *SHAPE),
        "widths": [draw(len(row)) for row in RANGES],
        "depths": [draw(len(DEPTHS)) for _ in STAGES],
        "width_noise": [generator.exponential(size=len(row)) for row in RANGES],
        "picks": [generator.exponential(size=len(row)) for row in RANGES],
        "depth_noise": [generator.exponential(size=len(DEPTHS)) for _ in STAGES],
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def perturbed(logits: np.ndarray, exponentials: np.ndarray, tau: float) -> np.ndarray:
    return (np.log(softmax(logits)) - np.log(exponentials)) / tau


def select2with_p(logits: np.ndarray, exponentials: np.ndarray, picks: np.ndarray, tau: float) -> tuple:
    """select2withP; torch draws without replacement by the largest of p / Exp(1)."""
    new_logits = perturbed(logits, exponentials, tau)
    index = np.argsort(-(softmax(new_logits) + 1e-7) / picks)[:2]
    return index, softmax(new_logits[index])


def channel_wise_inter(inputs: np.ndarray, outputs: int) -> np.ndarray:
    """ChannelWiseInterV1, which is adaptive_avg_pool3d over channels."""
    channels = inputs.shape[-1]
    if channels == outputs:
        return inputs
    starts = [int(np.floor(o * channels / outputs)) for o in range(outputs)]
    ends = [int(np.ceil((o + 1) * channels / outputs)) for o in range(outputs)]
    return np.stack([inputs[..., a:b].mean(-1) for a, b in zip(starts, ends, strict=True)], -1)


def conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    half = len(kernel) // 2
    rows, columns = (-(-n // stride) for n in x.shape[1:3])
    x = np.pad(x, [(0, 0), (half, half), (half, half), (0, 0)])
    windows = lambda i, j: x[:, i::stride, j::stride][:, :rows, :columns]
    return sum(windows(i, j) @ kernel[i, j] for i in range(len(kernel)) for j in range(len(kernel)))


def conv_bn(layer: dict, x: np.ndarray, choices: list[int], index: np.ndarray, prob: np.ndarray, stride: int = 1):
    """search_forward of ConvBNReLU, without the ReLU."""
    kernel = layer["conv"]["kernel"]
    filled = np.zeros((*x.shape[:3], kernel.shape[2] - x.shape[3]))
    out = conv(np.concatenate([x, filled], -1), kernel, stride)
    bns = []
    for i in index:
        own = out[..., : choices[i]]
        own = (own - own.mean((0, 1, 2))) / np.sqrt(own.var((0, 1, 2)) + EPSILON)
        norm = {name: values[i, : choices[i]] for name, values in layer["norm"].items()}
        bns.append(own * norm["scale"] + norm["bias"])
    out_channel = max(own.shape[-1] for own in bns)
    return sum(p * channel_wise_inter(own, out_channel) for p, own in zip(prob, bns, strict=True))


def additive_func(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    narrow, wide = sorted((a, b), key=lambda x: x.shape[-1])
    out = wide.copy()
    out[..., : narrow.shape[-1]] += narrow
    return out


def search_forward(given: dict, tau: float) -> tuple[np.ndarray, float, list]:
    """search_forward of SearchShapeCifarResNet: logits, expected FLOPs in millions, and the weights of widths."""
    weights, x = given["weights"], given["x"]
    flop_width_probs = [softmax(row) for row in given["widths"]]
    flop_depth_probs = [np.cumsum(softmax(row)[::-1])[::-1] for row in given["depths"]]
    rows = zip(given["widths"], given["width_noise"], given["picks"], strict=True)
    selected = [select2with_p(*row, tau) for row in rows]
    depth_probs = [softmax(perturbed(*row, tau)) for row in zip(given["depths"], given["depth_noise"], strict=True)]
    expected = [float(p @ np.array(row)) for p, row in zip(flop_width_probs, RANGES, strict=True)]
    area = lambda stage: int(np.ceil(SHAPE[0] / 2**stage) * np.ceil(SHAPE[1] / 2**stage))

    x = np.maximum(conv_bn(weights["stem"], x, RANGES[0], *selected[0]), 0)
    flops, expected_in, at = [9 * area(0) * SHAPE[2] * expected[0]], expected[0], 1
    for stage in range(len(STAGES)):
        feature_maps = []
        for block in range(BLOCKS):
            layers = weights[f"stage{stage + 1}"][f"block{block + 1}"]
            stride = 2 if stage > 0 and block == 0 else 1
            out = np.maximum(conv_bn(layers["layer1"], x, RANGES[at], *selected[at], stride), 0)
            out = conv_bn(layers["layer2"], out, RANGES[at + 1], *selected[at + 1])
            own = 9 * area(stage) * (expected_in * expected[at] + expected[at] * expected[at + 1])
            residual = x
            if "shortcut" in layers:
                residual = conv_bn(layers["shortcut"], x, RANGES[at + 1], *selected[at + 1], stride)
                own += area(stage) * expected_in * expected[at + 1]
            x = np.maximum(additive_func(residual, out), 0)
            feature_maps.append(x)
            first = next(i for i, depth in enumerate(DEPTHS) if depth >= block + 1)
            flops.append(flop_depth_probs[stage][first] * own)
            expected_in, at = expected[at + 1], at + 2
        possible = [feature_maps[depth - 1] for depth in DEPTHS]
        max_c = max(own.shape[-1] for own in possible)
        x = sum(w * channel_wise_inter(own, max_c) for w, own in zip(depth_probs[stage], possible, strict=True))
    features = x.mean((1, 2))
    flops.append(expected_in * CLASSES)
    logits = features @ weights["output"]["kernel"][: features.shape[-1]] + weights["output"]["bias"]
    return logits, sum(flops) / MILLION, [p for _, p in selected]


def get_flop(widths: list[int], depths: list[int]) -> int:
    """get_flop in mode "genotype", with the third deviation."""
    area = lambda stage: int(np.ceil(SHAPE[0] / 2**stage) * np.ceil(SHAPE[1] / 2**stage))
    flop, stream = 9 * area(0) * SHAPE[2] * widths[0], widths[0]
    for stage, depth in enumerate(depths):
        for block in range(depth):
            inner, outer = widths[1 + 2 * (stage * BLOCKS + block) :][:2]
            flop += 9 * area(stage) * (stream * inner + inner * outer)
            if stage > 0 and block == 0:
                flop += area(stage) * stream * outer
                stream = outer
            stream = max(stream, outer)
    return flop + stream * CLASSES


def get_flop_loss(expected_flop: float, flop_cur: float, flop_need: float, flop_tolerant: float) -> float:
    if flop_cur < flop_need - flop_tolerant:
        return -np.log(expected_flop)
    return np.log(expected_flop) if flop_cur > flop_need else 0.0


def rounds(temperatures: list[float], tolerance: float, fraction: float) -> list[dict]:
    seen = []
    full = get_flop([row[-1] for row in RANGES], [DEPTHS[-1]] * len(STAGES))
    for number, tau in enumerate(temperatures):
        given = numbers(number)
        logits, expected, weights = search_forward(given, tau)
        widths = [row[int(np.argmax(own))] for row, own in zip(RANGES, given["widths"], strict=True)]
        depths = [DEPTHS[int(np.argmax(own))] for own in given["depths"]]
        now = get_flop(widths, depths)
        loss = get_flop_loss(expected, now, fraction * full, tolerance * full)
        seen.append(
            {
                "outputs": {"logits": logits, "weights": np.stack(weights)},
                "cost": {"expected": expected, "now": now / MILLION, "penalty": loss},
                "living": {"widths": widths, "depths": depths},
            }
        )
    return seen
