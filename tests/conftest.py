"""Set before JAX starts: the CPU, as eight devices, so that meshes are tested on any machine.

Eight devices on few cores abort in a rendezvous time-out when hundreds of steps are dispatched unblocked: a test on
several devices ends each step with `jax.block_until_ready`.

XLA may contract a multiplication and an addition into one instruction that rounds once, and where it does so differs
between programs that compute the same. Without these instructions equal arithmetic has equal bits, and tests can ask
for that. The older emitters of fused loops take half the time to compile, and code that is not optimised two thirds of
the rest (the science tests, which train for long, ask for level 3). A flag that the installed jaxlib does not know is
left out. What users run has XLA's defaults, and so do the experiment, the notebooks and the benchmarks in CI.
"""

import os
import pathlib
import shutil
import tempfile

from tests import xla

# Set once a session: workers, and scripts that tests run, inherit the environment.
_FIRST = os.environ.get("PYTEST_XDIST_WORKER") is None

os.environ["JAX_PLATFORMS"] = "cpu"
if _FIRST:
    _GIVEN = os.environ.get("XLA_FLAGS", "")
    _FLAGS = ["--xla_force_host_platform_device_count=8", "--xla_cpu_max_isa=AVX"]
    _FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
    if "xla_backend_optimization_level" not in _GIVEN:
        _FLAGS += ["--xla_backend_optimization_level=0"]
    os.environ["XLA_FLAGS"] = " ".join([*_GIVEN.split(), *xla.known(_FLAGS)])

# Processes of one session (workers, scripts that tests run) share what they compile; the next session starts anew.
_SHARED = _FIRST and "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _SHARED:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxticket-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Programs without the lines of their sources are lowered in less time.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

import hypothesis
import jax
import pytest

# A mask that broadcasts by accident (a vector against a matrix) is a bug that trains: make it an error.
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline, since the first example compiles; no random seed, since a failure must be everyone's failure.
hypothesis.settings.register_profile("jaxticket", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jaxticket")


def pytest_sessionfinish() -> None:
    if _SHARED:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of the data sets that are too large for the repository; skips where it does not lie beside it."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
