"""Tests start with any jaxlib: a flag that it does not know would end the process without a word."""

import os

from tests import xla


def test_flags_that_the_installed_jaxlib_does_not_know_are_left_out():
    known = "--xla_backend_optimization_level=0"
    assert xla.known([known, "--xla_flag_of_another_version=1"]) == [known]


def test_the_flags_of_this_session_are_known():
    flags = os.environ["XLA_FLAGS"].split()
    assert "--xla_force_host_platform_device_count=8" in flags
    assert len({flag.split("=")[0] for flag in flags}) == len(flags), "set once, not by each worker"
    assert xla.known(flags) == flags
