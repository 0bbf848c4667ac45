"""The constraints that `make oldest` installs are the lower bounds of setup.cfg."""

import pathlib

from requirements import oldest

SETUP = pathlib.Path(__file__).resolve().parents[2] / "setup.cfg"
SMALL = """
[options]
install_requires =
    jax>=0.10
    numpy>=2.0

[options.extras_require]
io =
    orbax-checkpoint>=0.12.1
free =
    pillow
    jaxticket[io]
    numpy>=2.0
"""


def test_a_lower_bound_becomes_a_version_and_all_else_stays_free():
    assert oldest.oldest(SMALL) == ["jax==0.10", "numpy==2.0", "orbax-checkpoint==0.12.1"]


def test_what_the_library_is_made_of_has_lower_bounds():
    names = {line.split("==")[0] for line in oldest.oldest(SETUP.read_text())}
    assert {"jax", "optax", "numpy", "flax", "orbax-checkpoint"} <= names
