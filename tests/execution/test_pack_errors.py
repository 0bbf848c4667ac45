"""What cannot be packed or multiplied: an error that names the place and the fix."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from jaxticket import execution
from jaxticket.errors import InputError

KERNEL = jnp.ones((4, 6))
FULL = jnp.ones((4, 6), bool)
CORNER = FULL.at[3, 5].set(False)
nm = functools.partial(execution.pack_nm, n=2, m=4)
blocks = functools.partial(execution.pack_blocks, block=(2, 3))
PACKS = [execution.pack_dense, nm, execution.pack_condensed, blocks, execution.pack_bcsr, execution.pack_all]


@pytest.mark.parametrize(
    ("pack", "mask", "words"),
    [
        (nm, FULL, "mask keeps 4 of the inputs 0 to 3 of output 0, more than n=2 of m=4; .*pass n=4"),
        (functools.partial(execution.pack_nm, n=1, m=3), CORNER.at[:3].set(False), None),
        (functools.partial(execution.pack_nm, n=1, m=300), FULL, "m=300 must be at most 255"),
        (functools.partial(execution.pack_nm, n=-1, m=4), FULL, "n=-1"),
        (functools.partial(execution.pack_nm, n=1, m=0), FULL, "m=0"),
        (execution.pack_condensed, CORNER, r"mask keeps 3 inputs of output 5 and 4 of output 0.*scopes\.slices\(-1\)"),
        (
            blocks,
            CORNER,
            r"a part of the block of inputs from 2 and outputs from 3, with block=\(2, 3\); .*units\.block\(2, 3\)",
        ),
        (functools.partial(execution.pack_blocks, block=(3, 4)), CORNER, "inputs from 3 and outputs from 4"),
        (functools.partial(execution.pack_blocks, block=4), FULL, "block=4 must be a pair"),
        (functools.partial(execution.pack_blocks, block=(0, 4)), FULL, "block=0"),
    ],
)
def test_masks_that_a_form_does_not_admit(pack, mask, words):
    if words is None:  # groups of 3: the last is input 3 alone, which output 5 drops
        assert pack(KERNEL, mask).values.shape == (2, 1, 6)
        return
    with pytest.raises(InputError, match=words):
        pack(KERNEL, mask)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    ("kernel", "mask", "words"),
    [
        (jnp.ones((2, 2, 6)), FULL, "(2, 2, 6); pass a matrix"),
        (jnp.ones((0, 6)), jnp.ones((0, 6), bool), "no weights"),
        (jnp.ones((4, 6), int), FULL, "kernel has dtype int32"),
        ([[1.0]], FULL, "kernel is a list"),
        (KERNEL, None, "mask is a NoneType"),
        (KERNEL, KERNEL, "mask has dtype float32"),
        (KERNEL, jnp.ones((6, 4), bool), "does not broadcast to the kernel's, (4, 6)"),
        (KERNEL, jnp.ones(6, bool), "does not broadcast"),
    ],
)
def test_kernels_and_masks_that_no_form_takes(pack, kernel, mask, words):
    with pytest.raises(InputError, match=re.escape(words)):
        pack(kernel, mask)


@pytest.mark.parametrize("pack", PACKS)
def test_packing_is_not_traced(pack):
    with pytest.raises(InputError, match="pack outside jit"):
        jax.jit(pack)(KERNEL, FULL)


@pytest.mark.parametrize(
    ("x", "packed", "words"),
    [
        (jnp.ones(5), execution.pack_bcsr(KERNEL, FULL), r"x has shape \(5,\), but the kernel has 4 inputs"),
        (jnp.ones(()), execution.pack_bcsr(KERNEL, FULL), r"x has shape \(\)"),
        ("x", execution.pack_bcsr(KERNEL, FULL), "x is a str"),
        (jnp.ones(4), KERNEL, "packed is a .*; pack the kernel first"),
    ],
)
def test_products_that_do_not_fit(x, packed, words):
    with pytest.raises(InputError, match=words):
        execution.matmul(x, packed)


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        ({"bcsr": execution.pack_bcsr(KERNEL, FULL)}, "no 'dense' to compare with"),
        ({"dense": KERNEL}, "must map names to packed kernels"),
        (
            {"dense": execution.pack_dense(KERNEL, FULL), "small": execution.pack_bcsr(KERNEL[:2], FULL[:2])},
            "forms of one kernel",
        ),
    ],
)
def test_forms_that_cannot_be_compared(forms, words):
    with pytest.raises(InputError, match=words):
        execution.measure(forms, batch=2)
