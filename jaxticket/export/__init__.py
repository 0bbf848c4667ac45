"""Tickets that leave the library: a program that runs with jax alone, a file of weights, and a page of what they cost.

`save_program` writes the function and `save_weights` its arrays, by the names of their paths. `write_report` measures
the ticket beside the dense network.
"""

from jaxticket.export._costs import Cost, Report
from jaxticket.export._program import save_program
from jaxticket.export._report import write_report
from jaxticket.export._weights import load_weights, save_weights

__all__ = ["Cost", "Report", "load_weights", "save_program", "save_weights", "write_report"]
