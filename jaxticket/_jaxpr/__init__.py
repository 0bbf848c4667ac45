"""A walker over jaxprs, and what is built on it: layouts of arrays, products with weights, captured activations."""

from jaxticket._jaxpr._capture import Measure, captured, order_of_use
from jaxticket._jaxpr._layout import arrange, regroup, whole
from jaxticket._jaxpr._products import Product, gram, inner_axes, input_axes, input_squares, outputs, sum_positions
from jaxticket._jaxpr._walk import body_of, evaluate, move, scan_sizes, shape_of, trace, walk

__all__ = [
    "Measure",
    "Product",
    "arrange",
    "body_of",
    "captured",
    "evaluate",
    "gram",
    "inner_axes",
    "input_axes",
    "input_squares",
    "move",
    "order_of_use",
    "outputs",
    "regroup",
    "scan_sizes",
    "shape_of",
    "sum_positions",
    "trace",
    "walk",
    "whole",
]
