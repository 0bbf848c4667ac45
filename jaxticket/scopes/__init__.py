"""The scope of pruning: units that compete with each other for the places that a density leaves."""

from jaxticket.scopes._by_slice import by_slice
from jaxticket.scopes._groups import groups, input_axes
from jaxticket.scopes._kinds import Scope, leaf, slices, tree

__all__ = ["Scope", "by_slice", "groups", "input_axes", "leaf", "slices", "tree"]
