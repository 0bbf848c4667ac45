"""Claims that one-shot pruning of a pretrained encoder tests."""

from collections.abc import Mapping, Sequence

from experiments.claims.record import FAILS, HOLDS, UNDECIDED, Claim, Verdict
from jaxticket.methods.analysis.essential_sparsity import Knee

_PAPER = "Jaiswal et al. 2023, essential sparsity"
_FREE = 0.99  # of the cosine: less than 1 % is lost, as the paper says of its scores
_REMOVED = (0.1, 0.3)  # what goes easily, and the least that the paper calls essential sparsity
_BEND = (0.3, 0.7)  # where the paper's curves break


def claims(curves: Mapping[str, Sequence[tuple[float, ...]]], knee: Knee, *, texts: int) -> list[Claim]:
    """Return the claims of Jaiswal et al. (2023) about pruning by magnitude over all matrices at once.

    Args:
      curves: for each pruning its (sparsity, mean cosine, half its interval, …).
      knee: of the global curve.
      texts: the number of sentences of the means.
    """
    judged = []
    for sparsity, cosine, half, *_ in curves["global"]:
        if sparsity not in _REMOVED:
            continue
        low, high = cosine - half, cosine + half
        verdict: Verdict = HOLDS if low > _FREE else FAILS if high < _FREE else UNDECIDED
        judged.append(
            Claim(
                _PAPER,
                f"Without {100 * sparsity:g} % of the weights less than 1 % of the quality is lost.",
                "30 to 50 % go at less than 1 % of the score, BERT on GLUE and others, finetuned after pruning",
                f"cosine {cosine:.4f} ± {half:.4f} to the dense embedding",
                cosine,
                half,
                1,
                verdict,
                f"the interval over {texts} sentences, {low:.4f} to {high:.4f}, against {_FREE}; nothing is finetuned",
            )
        )
    inside = _BEND[0] <= knee.sharpest <= _BEND[1]
    judged.append(
        Claim(
            _PAPER,
            "The quality breaks between 30 and 70 % of the weights removed.",
            "30 to 50 %, and up to 70 % for large models",
            f"sharpest bend at {100 * knee.sharpest:g} %",
            100 * knee.sharpest,
            None,
            1,
            HOLDS if inside else FAILS,
            "of the mean cosine over sparsities in steps of those that were asked for",
        )
    )
    return judged
