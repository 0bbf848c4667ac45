"""ImageNet on meshes and processes: fake photographs, real runs; and the costs of full-size steps.

Run as a script, this file is experiments/imagenet.py with a narrow network and fake photographs from tfds.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
from unittest import mock

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # when run as a script

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from experiments import imagenet
from experiments._imagenet import networks, reading, training
from experiments._imagenet.config import Config
from experiments._imagenet.networks import NETWORKS, Network
from experiments._imagenet.program import Program, weights_average
from jaxticket.errors import InputError
from jaxticket.tickets import archive

EXAMPLES = 29  # of each split: three batches of 8 and a rest
FAST = ["--model", "narrow", "--image-size", "16", "--batch-size", "8", "--epochs", "6", "--warmup-epochs", "1"]
STEPS = 6 * (EXAMPLES // 8)


def narrow(classes, pixels):
    from jaxticket import models

    del pixels
    return models.resnet_20(classes=classes, width=4)


def as_script():
    """experiments/imagenet.py on fake photographs, with a line for each step."""
    import tensorflow_datasets as tfds

    rules = {r"layer1/conv/kernel": P(None, None, None, "tensor"), r"layer2/conv/kernel": P(None, None, "tensor")}
    NETWORKS["narrow"] = Network(narrow, rules, minimum=64)
    training.REPORT_STEPS = 1
    prepared = mock.patch.object(tfds.core.DatasetBuilder, "is_prepared", lambda _: True)
    with tfds.testing.mock_data(num_examples=EXAMPLES), prepared:
        return imagenet.main()


def start(out, *arguments, devices):
    cache = {"JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **cache, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, __file__, *FAST, "--out", str(out), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_two(out, *arguments):
    """Two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = ["--coordinator", f"localhost:{free.getsockname()[1]}", "--num-processes", "2"]
    return [start(out, *coordinator, "--process-id", str(i), *arguments, devices=2) for i in range(2)]


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


def wait_for_step(process, step):
    for line in process.stdout:
        if f"  step {step}  " in line:
            return
    raise AssertionError(process.stderr.read())


def records(out):
    (run,) = out.iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return run, [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def arrays(ticket):
    trees, _ = archive.read(ticket)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(trees)}


def same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


if __name__ == "__main__":
    sys.exit(as_script())
