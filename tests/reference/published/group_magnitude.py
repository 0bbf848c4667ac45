"""Group magnitude: members of a coupled channel give |w|² summed over its slice, which are averaged and normalised.

Convolutions and linear layers give the slices of outputs and of inputs, batch norms their scales; biases are left out.
"""

import numpy as np

ABOUT = {
    "paper": "Fang et al., 2023",
    "repository": "VainF/Torch-Pruning",
    "commit": "e80127d",
    "settings": {"ratio": 0.5},
    "deviations": [],
}
# (out, in, height, width), as the authors' framework has them: a stem, a residual block of two, and a classifier.
SHAPES = {"stem": (6, 3, 3, 3), "widen": (8, 6, 3, 3), "narrow": (6, 8, 3, 3), "head": (4, 6)}
NORMS = {"stem": 6, "widen": 8, "narrow": 6}


def weights() -> tuple[dict, dict]:
    """Return the kernels and the scales of the norms after them."""
    generator = np.random.default_rng(17)
    kernels = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    return kernels, {name: generator.standard_normal(n) for name, n in NORMS.items()}


def of_outputs(weight: np.ndarray) -> np.ndarray:
    return (np.abs(weight) ** 2).reshape(len(weight), -1).sum(1)


def of_inputs(weight: np.ndarray) -> np.ndarray:
    return of_outputs(np.swapaxes(weight, 0, 1))


def rounds(ratio: float) -> list[dict]:
    kernels, scales = weights()
    members = {
        "stem": [  # the residual stream
            of_outputs(kernels["stem"]),
            np.abs(scales["stem"]) ** 2,
            of_inputs(kernels["widen"]),
            of_outputs(kernels["narrow"]),
            np.abs(scales["narrow"]) ** 2,
            of_inputs(kernels["head"]),
        ],
        "widen": [of_outputs(kernels["widen"]), np.abs(scales["widen"]) ** 2, of_inputs(kernels["narrow"])],
    }
    mask, scores = {}, {}
    for name, importances in members.items():
        importance = np.sum(importances, axis=0) / len(importances)
        scores[name] = importance / importance.mean()
        pruned = len(importance) - int(len(importance) * (1 - ratio))
        mask[name] = np.ones(len(importance), bool)
        mask[name][np.argsort(importance)[:pruned]] = False
    return [{"mask": mask, "living": {name: int(m.sum()) for name, m in mask.items()}, "scores": scores}]
