"""The searches for winning tickets, and the controls that they are compared with."""

from jaxticket.loops import branches, early_bird, soups
from jaxticket.loops._imp import imp, level_keys, next_ticket, train_level
from jaxticket.loops._imp_scan import Levels, imp_scan
from jaxticket.loops._level import Level, LevelStore, PruneFn
from jaxticket.loops._prune import prune_by

__all__ = [
    "Level",
    "LevelStore",
    "Levels",
    "PruneFn",
    "branches",
    "early_bird",
    "imp",
    "imp_scan",
    "level_keys",
    "next_ticket",
    "prune_by",
    "soups",
    "train_level",
]
