"""The README's code runs, in its order, and does what its comments say."""

import pathlib
import re

import jaxticket as jt

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def test_readme_code_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec("\n".join(blocks[:1]), names)
    assert abs(float(jt.density(names["params"], names["mask"])) - 0.05) < 1e-3
    exec("\n".join(blocks[1:]), names)
    assert abs(float(jt.density(names["params"], names["mask"])) - 0.02) < 1e-3
