"""PrAC sets: examples that a round forgot or never learned, and those that its ticket sees in another way."""

import numpy as np

from tests.reference.network import SHAPES, full, keep

EXAMPLES = 30
ABOUT = {
    "paper": "Zhang et al., 2021",
    "repository": "VITA-Group/PrAC-LTH",
    "commit": "c65fd67",
    "settings": {"rounds": 3, "epochs": 16, "threshold": 0, "rate": 0.2, "tolerance": 0.08},
    "deviations": [],
}


def course(number: int, epochs: int) -> dict:
    """Return what a round shows: who was right in each epoch, predictions at its end, and weights by epoch."""
    generator = np.random.default_rng(number)
    ability = 2 * generator.random(EXAMPLES)[None] - 0.4 + np.linspace(-0.6, 0.3, epochs)[:, None]
    ends = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    move = lambda w, t: w + generator.standard_normal(w.shape) * 0.7**t
    return {
        "right": ability + 0.15 * generator.standard_normal(ability.shape) > 0.25,
        "dense": np.random.default_rng(99).integers(4, size=EXAMPLES),
        "sparse": np.where(generator.random(EXAMPLES) < 0.3, 5, np.random.default_rng(99).integers(4, size=EXAMPLES)),
        "weights": [{name: move(w, t) for name, w in ends.items()} for t in range(epochs)],
    }


def rounds(rounds: int, epochs: int, threshold: int, rate: float, tolerance: float) -> list[dict]:
    chosen, mask, seen = np.ones(EXAMPLES, bool), full(), []
    for number in range(rounds):
        shown = course(number, epochs)
        events = np.array([_events(shown["right"][:, i]) if chosen[i] else -1 for i in range(EXAMPLES)])
        chosen = events > threshold
        assert number or (events == 200_000).any(), "some examples are never learned"
        if number:
            other = shown["dense"] != shown["sparse"]
            assert (other & ~chosen).any(), "the ticket sees an example in another way that is not hard"
            chosen = chosen | other
        stop, mask = _stop(shown["weights"], mask, rate, tolerance)
        assert 6 < stop < epochs - 1, "it stops early in this trace"
        seen.append(
            {
                "mask": mask,
                "living": {name: int(m.sum()) for name, m in mask.items()},
                "events": {"of all": events},
                "set": {"of all": chosen},
                "stop": {"of all": stop},
            }
        )
    return seen


def _events(right: np.ndarray) -> int:
    if not right.any():
        return 200_000
    learned, events = False, 0
    for now in right:
        events += learned and not now
        learned = bool(now)
    return events


def _stop(weights: list[dict], mask: dict, rate: float, tolerance: float) -> tuple[int, dict]:
    """Return the epoch whose mask has settled, and that mask."""
    living = sum(int(m.sum()) for m in mask.values())
    queue, recording, last = [1.0] * 5, False, None
    for epoch, w in enumerate(weights):
        new = keep({name: np.abs(leaf) for name, leaf in w.items()}, living - round(rate * living), mask)
        if last is not None:
            distance = sum(int((new[name] != m).sum()) for name, m in last.items()) / living
            recording = recording or distance > tolerance
            if recording:
                queue = [distance, *queue[:-1]]
            if max(queue) < tolerance:
                return epoch, new
        last = new
    return len(weights), new
