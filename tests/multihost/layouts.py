"""Runs on several processes, each with devices of its own."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
_LIMIT = 900  # seconds


class Layout(NamedTuple):
    processes: int
    devices: int  # of each process

    def __str__(self) -> str:
        return f"{self.processes}x{self.devices}"


def start(layout: Layout, commands: Sequence[Sequence[object]], log: pathlib.Path) -> list[subprocess.Popen[bytes]]:
    """Starts one process for each command; what they print goes to files beside `log`."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "",  # what users run, not what makes the tests fast
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(layout.devices),
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    running = []
    for number, command in enumerate(commands):
        with log.with_name(f"{log.name}.{number}").open("wb") as stream:
            arguments = [sys.executable, *map(str, command)]
            running.append(subprocess.Popen(arguments, env=environment, stdout=stream, stderr=subprocess.STDOUT))
    return running


def finish(running: Sequence[subprocess.Popen[bytes]], log: pathlib.Path) -> None:
    """Waits for all; if one fails, ends the others and fails with what it printed."""
    limit = time.monotonic() + _LIMIT
    try:
        while any(process.poll() is None for process in running):
            failed = [number for number, process in enumerate(running) if process.poll()]
            assert not failed, log.with_name(f"{log.name}.{failed[0]}").read_text()[-3000:]
            assert time.monotonic() < limit, f"still running after {_LIMIT} s"
            time.sleep(0.1)
        for number, process in enumerate(running):
            assert process.returncode == 0, log.with_name(f"{log.name}.{number}").read_text()[-3000:]
    finally:
        for process in running:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
