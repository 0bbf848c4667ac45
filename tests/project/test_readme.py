"""The README's code runs, in its order, and does what its comments say."""

import pathlib
import re

import jax
import jax.numpy as jnp

import jaxticket as jt

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def test_readme_code_runs(capsys) -> None:
    training, search = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(training, names)
    assert abs(float(jt.density(names["params"], names["mask"])) - 0.05) < 1e-3
    exec(search, names)
    assert abs(float(jt.density(names["dense"], names["winner"].mask)) - 1 / 8) < 1e-3
    assert jax.tree.all(jax.tree.map(jnp.array_equal, names["winner"].params, names["dense"]))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [density for density, _ in printed[1:]] == ["1.000", "0.500", "0.250", "0.125"]
    assert all(float(loss) < 1.0 for _, loss in printed[1:]), "every level learns: an untrained network has 2.3"
