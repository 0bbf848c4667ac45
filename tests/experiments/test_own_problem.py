"""Users' own networks and data: what --problem takes, that it is trained, and what is said where it does not fit."""

import re
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from experiments import compare, train
from experiments.training import own
from jaxticket.errors import InputError

PROBLEM = """
    import jax, numpy as np
    from jaxticket import data
    from jaxticket.models import Model

    def init(key):
        return {"only": {"kernel": jax.random.normal(key, (6, 3))}}, None

    def apply(params, state, x, *, train, key):
        return x @ params["only"]["kernel"], state

    def build():
        rng = np.random.default_rng(0)
        x = rng.normal(size=(90, 6))
        return data.stratified(x, x[:, :3].argmax(1), seed=0, validation=15, test=15), Model(init, apply)

    def too_many_labels():
        dataset, model = build()
        return dataset._replace(train=dataset.train._replace(y=dataset.train.y + 7)), model

    def no_network():
        return build()[0], None

    def of_another_shape():
        dataset, model = build()
        return data.Dataset(*(data.Split(s.x[:, :4], s.y) for s in dataset)), model
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "my_problem.py").write_text(textwrap.dedent(PROBLEM))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my_problem.py"


def test_a_file_and_a_module_of_this_folder_are_found(file):
    for name in (f"{file}:build", "my_problem:build"):
        dataset, model = own.build(name)
        assert dataset.train.x.shape == (60, 6)
        assert model.init is not None


def test_train_and_compare_train_it(file, tmp_path, capsys):
    flags = ["--problem", f"{file}:build", "--epochs", "2", "--batch-size", "10", "--seeds", "1"]
    assert train.main([*flags, "--method", "gradual", "--density", "0.5", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"{file}:build" in printed
    assert re.search(r"what gradual ends with:.*only/kernel +\(6, 3\) +9 +18 +0\.5000", printed, re.DOTALL)
    (ticket,) = tmp_path.glob("train-*/cells/*/*/seed_0")
    kernel = jt.load(ticket).params["only"]["kernel"]
    assert kernel.shape == (6, 3)
    assert int(jnp.count_nonzero(kernel)) == 9
    assert compare.main([*flags, "--methods", "rigl", "--densities", "0.5", "--out", str(tmp_path)]) == 0
    assert re.search(r"pruned to 0\.5 .*only/kernel +\(6, 3\)", capsys.readouterr().out, re.DOTALL)
    assert np.isfinite(jt.load(next(tmp_path.glob("compare-*/cells/rigl/*/seed_0"))).params["only"]["kernel"]).all()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("build", "must be module:function"),
        ("nowhere:build", "cannot be imported"),
        ("nowhere.py:build", "cannot be imported"),
        ("my_problem.py:nothing", "has no function 'nothing'"),
        ("my_problem.py:no_network", "a network with init and apply"),
        ("my_problem.py:of_another_shape", "does not run on its examples"),
        ("my_problem.py:too_many_labels", "labels lie between 7"),
    ],
)
def test_problems_that_do_not_fit(file, problem, words):
    with pytest.raises(InputError, match=words):
        own.build(problem)
