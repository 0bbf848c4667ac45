"""The full products: fourteen thousand cases, which are made only where they are asked for (`-m slow`)."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "product_case" in metafunc.fixturenames:
        cases = metafunc.module.all_cases() if metafunc.config.option.markexpr == "slow" else []
        metafunc.parametrize("product_case", cases, ids=lambda case: "-".join(map(str, case.values())))
