"""Loops: the search for winning tickets, its controls, and the training and the folders that they need."""

from jaxticket.loops import branches as branches
from jaxticket.loops import prune as prune
from jaxticket.loops import rundir as rundir
from jaxticket.loops.fit import FitFn as FitFn
from jaxticket.loops.fit import Fitted as Fitted
from jaxticket.loops.fit import placed_fit as placed_fit
from jaxticket.loops.fit import scan_fit as scan_fit
from jaxticket.loops.fit import scan_train as scan_train
from jaxticket.loops.fit import step_fit as step_fit
from jaxticket.loops.fit import train_fn as train_fn
from jaxticket.loops.imp import imp as imp
from jaxticket.loops.imp import level_keys as level_keys
from jaxticket.loops.imp import train_level as train_level
from jaxticket.loops.imp_scan import Levels as Levels
from jaxticket.loops.imp_scan import imp_scan as imp_scan
from jaxticket.loops.level import Level as Level
from jaxticket.loops.level import ProgressFn as ProgressFn
from jaxticket.loops.recipe import Recipe as Recipe
from jaxticket.loops.replicate import Placement as Placement
from jaxticket.loops.replicate import place as place
from jaxticket.loops.replicate import replicate as replicate
from jaxticket.loops.store import StepCheckpoint as StepCheckpoint
from jaxticket.loops.store import Store as Store
