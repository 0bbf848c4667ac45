"""Labels through operations that act on every entry alone."""

from collections.abc import Callable

from jax.extend.core import JaxprEqn

from jaxticket._jaxpr import shape_of
from jaxticket.structure._values import Axis, Context, Value, axis_of, value

# fmt: off
# Operations on one array that make zero of zero.
_KEEP_ZERO = frozenset({
    "abs", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "conj", "convert_element_type", "copy", "copy_p",
    "erf", "erf_inv", "expm1", "floor", "imag", "layout_constraint", "log1p", "mesh_cast", "name", "neg", "pcast",
    "pvary", "real", "reduce_precision", "reshard", "round", "sharding_constraint", "sign", "sin", "sinh", "sqrt",
    "square", "stop_gradient", "tan", "tanh",
})
# The others on one array.
_UNARY = frozenset({
    "acos", "acosh", "bessel_i0e", "bessel_i1e", "bitcast_convert_type", "clz", "cos", "cosh", "digamma", "erfc",
    "exp", "exp2", "integer_pow", "is_finite", "lgamma", "log", "logistic", "not", "population_count", "rsqrt",
})
# Operations on several arrays.
_SEVERAL = frozenset({
    "add", "add_any", "and", "atan2", "clamp", "complex", "div", "eq", "eq_to", "ge", "gt", "igamma", "igammac",
    "le", "le_to", "lt", "lt_to", "max", "min", "mul", "ne", "nextafter", "or", "polygamma", "pow",
    "regularized_incomplete_beta", "rem", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical",
    "sub", "xor", "zeta",
})
# fmt: on
NAMES = _KEEP_ZERO | _UNARY | _SEVERAL


def elementwise(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Join operands along axes of equal size. Operands without axes and axes of size 1 couple nothing."""
    shape = shape_of(eqn.outvars[0])
    if any(v.labels and len(v.labels) != len(shape) for v in values):  # bits of a wider or narrower type
        for v in values:
            context.freeze(v, "its bits are read as another type")
        return context.pinned(shape, "its bits are read as another type")
    if eqn.primitive.name == "convert_element_type" and not shape:
        return values[0]  # a constant stays what it is known to be, but for digits
    axes = []
    for axis, n in enumerate(shape):
        full = [v for v in values if v.labels and len(v.labels[axis]) == n]
        for v in full[1:]:
            context.atoms.join(full[0].labels[axis], v.labels[axis])
        for v in values:
            if v.labels and len(v.labels[axis]) != n:
                context.atoms.freeze(v.labels[axis], "its single entry is broadcast")
        null = _is_null(eqn, values, [_null(v, axis, n) for v in values])
        axes.append(Axis(full[0].labels[axis], null, all(v.copied[axis] for v in full)))
    return value(axes)


def _null(v: Value, axis: int, size: int) -> bool:
    """Whether a value is zero along an axis wherever its members are, as the constant 0 always is."""
    if v.labels:
        return v.null[axis] and len(v.labels[axis]) == size
    return v.scalar is not None and v.scalar == 0


def _is_null(eqn: JaxprEqn, values: list[Value], nulls: list[bool]) -> bool:
    name = eqn.primitive.name
    if name in ("mul", "and"):
        return any(nulls)
    if name in ("div", "rem"):
        return nulls[0]
    if name == "integer_pow":
        return nulls[0] and eqn.params["y"] > 0
    if name == "select_n":
        return all(nulls[1:])
    if name == "clamp":
        return nulls[1] and _has_sign(values[0], -1) and _has_sign(values[2], 1)
    if name in ("max", "min"):
        sign = -1 if name == "max" else 1  # of a bound that lets 0 through
        return all(nulls) or any(nulls[i] and _has_sign(values[1 - i], sign) for i in (0, 1))
    return name in (_KEEP_ZERO | {"add", "add_any", "sub", "or", "xor", "complex"}) and all(nulls)


def _has_sign(v: Value, sign: int) -> bool:
    """Whether a value is a constant number of this sign, or zero."""
    return v.scalar is not None and v.scalar * sign >= 0


def pass_through(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """Return the labels of several operands that leave as they enter."""
    return values


def random(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """Return fresh labels of arrays that are drawn or counted, whatever their entries belong to."""
    for v in values:
        context.freeze(v, f"{eqn.primitive.name} draws by it")
    return [context.fresh(shape_of(var)) for var in eqn.outvars]


def axis_by_axis(v: Value, take: Callable[[int], Axis]) -> Value:
    """Return a value whose axes are made by a function of the axis of another one."""
    return value([take(axis) for axis in range(len(v.labels))])


def kept_axes(v: Value, dropped: tuple[int, ...]) -> Value:
    """Return a value without some of its axes."""
    return value([axis_of(v, axis) for axis in range(len(v.labels)) if axis not in dropped])
