"""Tickets that run faster."""
from jaxticket.structure._channels import channels, spread
from jaxticket.structure._groups import Frozen, Group, Groups, Leaf, Member
from jaxticket.structure._replay import replay
from jaxticket.structure._resize import expand, shrink
from jaxticket.structure._trace import trace
