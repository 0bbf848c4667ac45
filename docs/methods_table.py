"""Writes registry.md, the page of methods that the registry makes, and links papers to the claims tested of them.

    python docs/methods_table.py

Tests compare the pages with what this would write.
"""

import pathlib
import re
import sys
from collections.abc import Iterable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for `experiments`, when run as a script

from experiments.claims.record import load, slug
from jaxticket import registry

PAGE = pathlib.Path(__file__).with_name("registry.md")
METHODS = pathlib.Path(__file__).with_name("methods.md")
_EVIDENCE = pathlib.Path(__file__).with_name("evidence")
_REPORT = "evidence/report.html"  # which the hook of the site adds

_ABOUT = """\
# Registry of methods

<!-- Written by docs/methods_table.py from jaxticket.registry: change it there. -->

`jaxticket.registry` makes these methods by name, for any density and any length of training. `experiments/train.py` and
`experiments/compare.py` train them. Each field is tested against the behaviour of the method
(`tests/test_registry.py`). [Methods](methods.md) lists everything else that the parts make.

- **unit**: the weights that live or die together: single weights (`element`), or blocks of 4 × 4.
- **when**: `before` if the mask is chosen before the training and stays, `during` if it changes.
- **scope**: the weights that compete: all weights (`tree`, so that the scores decide how dense each layer is), those
  of each layer (`leaf`), or those of small groups (`groups`).
- **data**: the mask depends on a batch, other than through the weights (`batch`), or it does not (`none`).
- **needs**: gradients or Hessian of the loss, a random key.
- **regrows**: whether a pruned weight may come back.

"""


def page() -> str:
    """The page, as Markdown."""
    taxonomy = ("name", "paper", "unit", "when", "scope", "data", "needs", "regrows")
    rows = [
        (
            f"`{m.name}`",
            m.paper,
            m.unit,
            m.when,
            m.scope,
            m.data,
            ", ".join(sorted(m.needs)) or "–",
            "yes" if m.regrows else "no",
        )
        for m in registry.METHODS.values()
    ]
    code = [
        (f"`{m.name}`", f"`{m.arguments}`", ", ".join(f"`{path}`" for path in m.evidence))
        for m in registry.METHODS.values()
    ]
    return linked(
        f"{_ABOUT}{_table(taxonomy, rows)}\n## Arguments and evidence\n\n"
        "The code is that of a training of 1,000 steps.\n\n"
        f"{_table(('name', 'arguments', 'evidence'), code)}"
    )


def linked(text: str) -> str:
    """A page of tables in which each paper links to its claims, where some are stored; other links stay."""
    text = re.sub(rf"\[([^]]+)]\({re.escape(_REPORT)}#[^)]*\)", r"\1", text)
    for paper in {claim.paper for run in load(_EVIDENCE) for claim in run.claims}:
        text = text.replace(f"| {paper} |", f"| [{paper}]({_REPORT}#{slug(paper)}) |")
    return text


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
    METHODS.write_text(linked(METHODS.read_text()))
