"""FLOPs by hand count, and the budgets of training from scratch."""

import jax
import jax.numpy as jnp
import pytest

from jaxticket.diagnostics import flops, scratch_b, scratch_e
from jaxticket.errors import InputError, NoMatchError, StructureError

SHAPES = {
    "conv1": {"kernel": (3, 3, 3, 16), "bias": (16,)},
    "conv2": {"kernel": (3, 3, 8, 32), "bias": (32,)},  # in two groups: each output sees 8 of 16 channels
    "norm": {"scale": (32,)},
    "output": {"kernel": (32, 10), "bias": (10,)},
}
PARAMS = jax.tree.map(lambda shape: jnp.ones(shape), SHAPES, is_leaf=lambda x: isinstance(x, tuple))
POSITIONS = {"conv1": 32 * 32, "conv2": 16 * 16}


def test_dense_layers_by_hand():
    lenet = {
        str(i): {"kernel": jax.ShapeDtypeStruct(s, jnp.float32)}
        for i, s in enumerate([(784, 300), (300, 100), (100, 10)])
    }
    assert flops(lenet) == 2 * (235_200 + 30_000 + 1_000)


def test_convolutions_by_hand():
    by_hand = 2 * (27 * 16 * 1024 + 72 * 32 * 256 + 320)
    assert flops(PARAMS, positions=POSITIONS) == by_hand == 2_065_024


def test_the_authors_count():
    """Hooks on their modules count biases, norms, ReLU and pooling; convolution and linear layer alone cost 15,114."""
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 3, 4))},
        "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
        "output": {"kernel": jnp.ones((64, 10)), "bias": jnp.ones(10)},
    }
    positions = {"conv|norm": 8 * 8}
    assert flops(params, positions=positions) == 13_824 + 1_280
    assert flops(params, positions=positions, costs={"output/bias": 1}) == 15_114
    costs = {"scale": 1 + 1 + 1, "bias": 1}  # a product, ReLU, and 2 × 2 pooling of a quarter of the positions
    assert flops(params, positions=positions, costs=costs) == 13_824 + 512 + 256 + 256 + 1_290 == 16_138
    with pytest.raises(InputError, match=r"costs\['bias'\]=0"):
        flops(params, costs={"bias": 0})


def test_masked_weights_do_not_count():
    mask = jax.tree.map(lambda p: None, PARAMS)
    mask["conv1"]["kernel"] = jnp.arange(16).reshape(1, 1, 1, 16) < 4  # channels
    mask["output"]["kernel"] = jnp.arange(320).reshape(32, 10) < 7  # weights
    assert flops(PARAMS, positions=POSITIONS, mask=mask) == 2 * (27 * 4 * 1024 + 72 * 32 * 256 + 7)


def test_the_filter_chooses_the_layers():
    assert flops(PARAMS, where=lambda p: jax.tree.map(lambda x: x.shape == (32, 10), p)) == 640


def test_flops_errors():
    with pytest.raises(InputError, match=r"positions\['conv1'\]=0"):
        flops(PARAMS, positions={"conv1": 0})
    with pytest.raises(NoMatchError, match="conv9"):
        flops(PARAMS, positions={"conv9": 4})
    with pytest.raises(NoMatchError):
        flops({"bias": jnp.ones(3)})
    with pytest.raises(StructureError):
        flops(PARAMS, mask={"w": None})


def test_scratch_e_is_the_training_of_the_large_network():
    assert scratch_e(160, steps_per_epoch=391) == (160, 62_560, (31_280, 46_920))
    assert scratch_e(3, steps_per_epoch=1, milestones=()).milestones == ()


@pytest.mark.parametrize(
    ("dense", "pruned", "cap", "epochs"),
    [
        (100, 100, None, 160),
        (300, 100, None, 480),
        (300, 100, 2, 320),
        (300, 200, 2, 240),
        (1000, 999, None, 160),  # rounded down
        (1507, 1000, None, 241),
        (3, 1, 1, 160),
        (3, 1, 1.01, 161),  # the cap rounds down
        (3 * 10**20, 10**20, None, 480),  # exact integers, no rounded ratio
    ],
)
def test_scratch_b_is_as_many_flops(dense, pruned, cap, epochs):
    budget = scratch_b(160, dense_flops=dense, pruned_flops=pruned, steps_per_epoch=10, cap=cap)
    assert (budget.epochs, budget.steps) == (epochs, 10 * epochs)
    # After whole epochs, at 50 and 75 % of the actual training: 120 and 180 of 241.
    assert budget.milestones == (10 * int(0.5 * epochs), 10 * int(0.75 * epochs))
    if cap is None:
        assert 0 <= 160 * dense - budget.epochs * pruned < pruned  # the most epochs of at most equal FLOPs


@pytest.mark.parametrize(("ratio", "cap", "epochs"), [(1.43, 2, 128), (2.5, 2, 180), (2.5, None, 225)])
def test_scratch_b_on_imagenet(ratio, cap, epochs):
    budget = scratch_b(
        90, dense_flops=round(100 * ratio), pruned_flops=100, steps_per_epoch=1, cap=cap, milestones=(1 / 3, 2 / 3)
    )
    assert budget.epochs == epochs
    first, second = budget.milestones
    assert first == epochs // 3
    assert second - 2 * first == (epochs == 128)  # the authors' is 84, not 85


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": -2}, "epochs=-2"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"pruned_flops": 0}, "pruned_flops=0"),
        ({"pruned_flops": 11}, "dense_flops=10"),
        ({"cap": 0.5}, "cap=0.5"),
        ({"milestones": (0.75, 0.5)}, "milestones="),
        ({"milestones": (80, 120)}, "milestones="),
        ({"milestones": (0.0, 0.5)}, "milestones="),
    ],
)
def test_budgets_that_cannot_be(changes, message):
    arguments = {"epochs": 10, "steps_per_epoch": 5, "dense_flops": 10, "pruned_flops": 5} | changes
    with pytest.raises(InputError, match=message):
        scratch_b(arguments.pop("epochs"), **arguments)
