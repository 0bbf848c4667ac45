"""Set before JAX starts: the CPU, as eight devices, so that meshes are tested on any machine.

Eight devices on few cores abort in a rendezvous time-out when hundreds of steps are dispatched unblocked: a test on
several devices ends each step with `jax.block_until_ready`.

XLA may contract a multiplication and an addition into one instruction that rounds once, and where it does so differs
between programs that compute the same. Without these instructions equal arithmetic has equal bits, and tests can ask
for that. The older emitters of fused loops take half the time to compile; what users run has XLA's defaults, and so do
the experiment, the notebooks and the benchmarks in CI.
"""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_cpu_max_isa=AVX --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

import hypothesis
import jax
import pytest

# A mask that broadcasts by accident (a vector against a matrix) is a bug that trains: make it an error.
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline, since the first example compiles; no random seed, since a failure must be everyone's failure.
hypothesis.settings.register_profile("jaxticket", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jaxticket")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of the data sets that are too large for the repository; skips where it does not lie beside it."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
