"""Costs of networks, as data."""

from typing import NamedTuple


class Cost(NamedTuple):
    """The cost of a network.

    Attributes:
      parameters: the entries of its arrays.
      flops: the FLOPs of the traced batch: two for each multiply-add of products and convolutions.
      bytes: the bytes of its arrays.
      seconds: the median time of a call.
      quartiles: the first and third quartile of that time.
    """

    parameters: int
    flops: int
    bytes: int
    seconds: float
    quartiles: tuple[float, float]


class Report(NamedTuple):
    """The costs of a dense network and of its ticket.

    Attributes:
      dense: those of the dense network.
      ticket: those of the ticket.
      speedup: the median, over the rounds, of the dense network's time over the ticket's.
      device: the device on which both ran.
      rounds: the calls of each.
    """

    dense: Cost
    ticket: Cost
    speedup: float
    device: str
    rounds: int
