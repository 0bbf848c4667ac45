"""A walker over jaxprs, and what is built on it: layouts of arrays, products with weights, captured activations."""

from jaxticket._jaxpr._capture import Measure, captured, order_of_use
from jaxticket._jaxpr._layout import arranged, regrouped, whole
from jaxticket._jaxpr._products import Product, gram, input_squares, outputs, wide
from jaxticket._jaxpr._walk import called, evaluated, moved, scan_sizes, shape_of, traced, walk

__all__ = [
    "Measure",
    "Product",
    "arranged",
    "called",
    "captured",
    "evaluated",
    "gram",
    "input_squares",
    "moved",
    "order_of_use",
    "outputs",
    "regrouped",
    "scan_sizes",
    "shape_of",
    "traced",
    "walk",
    "whole",
    "wide",
]
