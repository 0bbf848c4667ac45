"""TAS: the widths and depths of a network, searched by gradients under a target of multiply-adds (Dong and Yang, 2019).

Each convolution has some widths, and each stage some depths, with a logit for each. A step draws two widths of every
convolution: its output is the weighted sum of both, aligned by interpolation over channels. A stage's output is a
weighted sum of its depths. So the loss has a gradient for the logits, as the expected multiply-adds have. Steps of the
weights and of the logits take turns, on two halves of the training examples. The likeliest widths and depths are the
smaller network, which trains from fresh weights under the whole one as its teacher (`training.distill`).

The rest is independent of the network, which is a `Supernet`; `residual_supernet` is that of the paper.

References:
  Dong and Yang, `Network Pruning via Transformable Architecture Search <https://arxiv.org/abs/1905.09717>`_, 2019
"""

from jaxticket.methods.channels.tas._budget import alive, choose, expect_widths, penalise
from jaxticket.methods.channels.tas._choices import depth_choices, interpolate, resizes, width_choices
from jaxticket.methods.channels.tas._sample import Draw, Logits, draw, draw_pairs, init_logits, relax
from jaxticket.methods.channels.tas._search import Outcome, SearchFn, anneal, search
from jaxticket.methods.channels.tas._supernet import Supernet, residual_supernet

__all__ = [
    "Draw",
    "Logits",
    "Outcome",
    "SearchFn",
    "Supernet",
    "alive",
    "anneal",
    "choose",
    "depth_choices",
    "draw",
    "draw_pairs",
    "expect_widths",
    "init_logits",
    "interpolate",
    "penalise",
    "relax",
    "residual_supernet",
    "resizes",
    "search",
    "width_choices",
]
