"""Structure-LTH: masks of convolutions are refilled by the count of weights, and regrouped in clusters of rows."""

import numpy as np

# Outputs × inputs × rows × columns, as the authors' framework has them; the sizes of the clusters that are planted.
SHAPES = {"first": (40, 4, 3, 3), "second": (76, 8, 3, 3)}
CLUSTERS = {"first": (20, 20), "second": (38, 38)}
ABOUT = {
    "paper": "Chen et al., 2022",
    "repository": "VITA-Group/Structure-LTH",
    "commit": "8b10a76",
    "settings": {"rates": [0.0, 0.3], "ratios": [1.5, 3.0]},
    "deviations": [
        "Refilling keeps the K best channels, of equal ones the first, in the place of those above the threshold and a "
        "random one at it.",
        "The test of a block's width looks at its own last column, and at all rows, in the place of the column of that "
        "number and of the rows up to the first that fails.",
        "The clusters are planted, in the place of those that hMETIS finds.",
    ],
}


def masks() -> dict[str, np.ndarray]:
    """Return masks whose rows read mostly the columns of their cluster, in a random order."""
    generator, seen = np.random.default_rng(6), {}
    for name, shape in SHAPES.items():
        labels = labels_of(name)
        home = np.arange(np.prod(shape[1:])) * 2 // np.prod(shape[1:])
        near = home[None, generator.permutation(home.size)] == labels[:, None]
        chances = np.where(near, generator.uniform(0.5, 1, size=home.size), 0.03)
        seen[name] = (generator.random(near.shape) < chances).reshape(shape)
    return seen


def labels_of(name: str) -> np.ndarray:
    sizes = CLUSTERS[name]
    return np.random.default_rng(len(name)).permutation(np.repeat(np.arange(len(sizes)), sizes))


def refill(mask: np.ndarray, fillback_rate: float) -> np.ndarray:
    """prune_model_custom_fillback with criteria="remain"."""
    rows = mask.reshape(len(mask), -1)
    count = rows.sum(1)
    num_channel = count.sum() / rows.shape[1]
    int_channel = int(num_channel + (len(rows) - num_channel) * fillback_rate)
    best = sorted(range(len(rows)), key=lambda row: -count[row])[: max(int_channel, 1)]
    kept = np.zeros(len(rows), bool)
    kept[best] = True
    return kept


def refill_as_published(mask: np.ndarray, fillback_rate: float, pick: int) -> np.ndarray:
    """The same without the deviation; `pick` is the number of the channel at the threshold that becomes whole."""
    rows = mask.reshape(len(mask), -1).copy()
    count = rows.sum(1)
    num_channel = count.sum() / rows.shape[1]
    int_channel = int(num_channel + (len(rows) - num_channel) * fillback_rate)
    threshold = np.sort(count)[max(len(rows) - int_channel, 1) - 1]
    rows[count > threshold], rows[count < threshold] = True, False
    rows[np.flatnonzero(count == threshold)[pick]] = True
    return rows


def regroup(mask: np.ndarray, labels: np.ndarray, t1: float, nn: int = 32, b2: int = 16) -> list[tuple]:
    """The blocks of rows × columns of regroup, from the clusters that are given."""
    rows = mask.reshape(len(mask), -1)
    clusters: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        clusters.setdefault(label, []).append(row)
    blocks = []
    for r in sorted(clusters.values(), key=len, reverse=True):
        dense_cols = columns_of(rows[r], t1)
        if dense_cols is None:
            continue
        if len(r) > nn:
            blocks += [(r[: len(r) // nn * nn], dense_cols), (r[len(r) // nn * nn :], dense_cols)]
        elif len(r) > b2:
            blocks.append((r, dense_cols))
    return blocks


def columns_of(rows: np.ndarray, t1: float) -> list[int] | None:
    nnz_cols = rows.sum(0)
    cc = sorted(range(rows.shape[1]), key=lambda x: nnz_cols[x], reverse=True)
    nnz_rows = rows.sum(1)
    for i in range(1, rows.shape[1]):
        nnz_rows = nnz_rows - rows[:, cc[i - 1]]
        if all(i > t1 * left for left in nnz_rows):
            return cc[:i]
    return None


def columns_as_published(rows: np.ndarray, t1: float) -> list[int] | None:
    """The same without the deviation."""
    nnz_cols = rows.sum(0)
    cc = sorted(range(rows.shape[1]), key=lambda x: nnz_cols[x], reverse=True)
    nnz_rows = rows.sum(1)
    for i in range(1, rows.shape[1]):
        flag = False
        for j in range(len(rows)):
            nnz_rows[j] -= rows[j, i]
            if i <= t1 * nnz_rows[j]:
                flag = True
                break
        if not flag:
            return cc[:i]
    return None


def rounds(rates: list[float], ratios: list[float]) -> list[dict]:
    seen = []
    for rate in rates:
        kept = {name: refill(mask, rate) for name, mask in masks().items()}
        seen.append({"mask": kept, "living": {name: int(m.sum()) for name, m in kept.items()}})
    for t1 in ratios:
        new = {}
        for name, mask in masks().items():
            new[name] = np.zeros(mask[0].size * len(mask), bool).reshape(len(mask), -1)
            blocks = regroup(mask, labels_of(name), t1)
            assert blocks, "clusters give blocks"
            for r, columns in blocks:
                new[name][np.ix_(r, columns)] = True
        assert all(0 < m.mean() < 0.5 for m in new.values()), "some of the columns"
        seen.append({"mask": new, "living": {name: int(m.sum()) for name, m in new.items()}})
    return seen
