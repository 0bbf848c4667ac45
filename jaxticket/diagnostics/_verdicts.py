"""The rigorous definition of a winning ticket, as a typed answer with its evidence."""

import enum
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scipy.special import stdtrit

from jaxticket._checks import check_number
from jaxticket.diagnostics._intervals import interval
from jaxticket.errors import InputError


class Outcome(enum.Enum):
    """The class of a sparse network, from best to least informative."""

    JACKPOT = "jackpot"  # clearly above the random reinit, and no worse than the dense network
    SECONDARY = "secondary"  # clearly above the random reinit, but below the dense network
    NONE = "none"  # no clear gap over the random reinit: its initial weights win nothing
    TRIVIAL_SPARSITY = "trivial_sparsity"  # the random reinit matches the dense network, so any weights would
    BAD_RECIPE = "bad_recipe"  # the dense network is clearly below its best, so nothing can be concluded


class Sample(NamedTuple):
    """The summary of replicates: mean, half the width of its 95 % interval, standard deviation, and their number."""

    mean: float
    half_width: float
    deviation: float
    n: int


class Comparison(NamedTuple):
    """A difference of means, and the margin that it must exceed to count."""

    difference: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether the difference exceeds its margin."""
        return self.difference > self.margin


class Verdict(NamedTuple):
    """The outcome, and the evidence for it; accuracies are fractions.

    Attributes:
      outcome: the answer.
      dense: the dense network.
      ticket: its mask over its own weights.
      reinit: the same masks over fresh weights.
      retrained: the trained weights, pruned and trained once more.
      recipe: best − dense. Clear: the recipe is bad.
      sparsity: dense − reinit. Not clear: the sparsity is trivial.
      gap: ticket − reinit. Not clear: no ticket.
      prize: ticket − dense. Negative: the secondary prize.
      gain: ticket − retrained. Not positive: pruning and retraining gets as far without rewinding.
    """

    outcome: Outcome
    dense: Sample
    ticket: Sample
    reinit: Sample
    retrained: Sample
    recipe: Comparison
    sparsity: Comparison
    gap: Comparison
    prize: Comparison
    gain: Comparison


def verdict(
    dense: Sequence[float],
    ticket: Sequence[float],
    reinit: Sequence[float],
    retrained: Sequence[float],
    *,
    best: float,
    margin: float = 0.005,
) -> Verdict:
    """Classify a sparse network by the definition of "Sanity Checks for Lottery Tickets" (Ma et al., 2021).

    All networks were trained by one recipe for as many epochs. A difference counts if it exceeds max(margin, t ·
    √(s_a²/n_a + s_b²/n_b)), where t is the 97.5 % quantile of Student's t with n_a + n_b − 2 degrees of freedom. The
    names, margins and order of the rules are a reading of the paper, whose wording was not seen.

    The rules apply in this order. A dense network clearly below `best` means a bad recipe. A reinit that is not clearly
    below the dense network means a trivial sparsity. A ticket not clearly above the reinit means no ticket. Otherwise
    the mean decides: at or above the dense network's it is the jackpot.

    Args:
      dense: test accuracies of the dense network, one a replicate, in [0, 1].
      ticket: those of its mask over its own weights.
      reinit: those of the same masks over fresh weights.
      retrained: those of the trained weights, pruned and trained once more.
      best: the best accuracy known of the dense network, whatever the recipe.
      margin: the least difference that counts.

    Returns:
      A Verdict.

    Raises:
      InputError: fewer than two replicates, values outside [0, 1] (percentages, NaN), or a negative margin.

    Examples:
      >>> result = verdict([0.985, 0.984], [0.986, 0.985], [0.960, 0.962], [0.980, 0.981], best=0.985)
      >>> result.outcome, result.gap.clear
      (<Outcome.JACKPOT: 'jackpot'>, True)
    """
    for name, values in (("dense", dense), ("ticket", ticket), ("reinit", reinit), ("retrained", retrained)):
        _check_accuracies(name, values)
        if len(values) < 2:
            raise InputError(f"{name}={list(values)} has too few replicates; a margin needs at least two")
    _check_accuracies("best", [best])
    check_number(margin=margin)
    if not margin >= 0:
        raise InputError(f"margin={margin} must not be negative; 0.005 is half a point")
    d, t, r, again = (_sample(values) for values in (dense, ticket, reinit, retrained))
    recipe = _compare(Sample(best, 0.0, 0.0, 1), d, margin)
    sparsity, gap, prize, gain = (_compare(x, y, margin) for x, y in ((d, r), (t, r), (t, d), (t, again)))
    if recipe.clear:
        outcome = Outcome.BAD_RECIPE
    elif not sparsity.clear:
        outcome = Outcome.TRIVIAL_SPARSITY
    elif not gap.clear:
        outcome = Outcome.NONE
    else:
        outcome = Outcome.JACKPOT if prize.difference >= 0 else Outcome.SECONDARY
    return Verdict(outcome, d, t, r, again, recipe, sparsity, gap, prize, gain)


def _sample(values: Sequence[float]) -> Sample:
    numbers = [float(value) for value in values]
    mean, half_width = interval(numbers)
    return Sample(mean, half_width, statistics.stdev(numbers), len(numbers))


def _compare(a: Sample, b: Sample, least: float) -> Comparison:
    noise = math.sqrt(a.deviation**2 / a.n + b.deviation**2 / b.n)
    quantile = float(stdtrit(a.n + b.n - 2, 0.975))
    return Comparison(a.mean - b.mean, max(least, quantile * noise))


def _check_accuracies(name: str, values: Sequence[float]) -> None:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise InputError(f"{name}={values!r} is not a sequence; pass the accuracy of each replicate")
    for value in values:
        check_number(**{name: value})
    if not all(0 <= value <= 1 for value in values):
        raise InputError(f"{name}={list(values)} must be accuracies between 0 and 1; divide percentages by 100")
