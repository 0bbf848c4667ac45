"""XLA's flags for tests: those that the installed jaxlib knows, since one that it does not know ends the process."""

import os
import subprocess
import sys

_ASK = "from jaxlib import xla_client; xla_client.make_cpu_client()"


def known(flags: list[str]) -> list[str]:
    """Return the flags that the installed jaxlib knows; it is asked in processes of their own."""
    return flags if _starts(flags) else [flag for flag in flags if _starts([flag])]


def _starts(flags: list[str]) -> bool:
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags)}
    return subprocess.run([sys.executable, "-c", _ASK], env=environment, capture_output=True).returncode == 0
