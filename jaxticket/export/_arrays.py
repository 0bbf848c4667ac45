"""Arrays by the names of their paths, as programs take them and files hold them."""

from collections import Counter
from typing import Any

from jaxticket import _tree
from jaxticket._check_trees import check_arrays
from jaxticket.errors import InputError
from jaxticket.typing import PyTree


def by_path(argument: str, variables: PyTree) -> dict[str, Any]:
    """Return the arrays of a pytree by the names of their paths, such as 'first/kernel', in tree order.

    Raises InputError for leaves that are not arrays and for names that stand for several leaves.
    """
    check_arrays(argument, variables)
    names, leaves = _tree.leaves(_tree.names(variables)), _tree.leaves(variables)
    present = [(name, x) for name, x in zip(names, leaves, strict=True) if x is not None]
    if not present:
        raise InputError(f"{argument} holds no arrays; pass the parameters of the network")
    if twice := [name for name, count in Counter(name for name, _ in present).items() if count > 1]:
        raise InputError(f"{argument}: several arrays are called {twice[0]!r}; give them paths that differ")
    return dict(present)
