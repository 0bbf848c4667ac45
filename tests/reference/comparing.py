"""The comparison of what the library does with a stored trace."""

import numpy as np


def assert_follows(ours: list[dict], published: list[dict], *, rtol: float = 1e-5, atol: float = 2e-6) -> None:
    """Compare step by step, or round by round, all that the trace holds: masks and counts are equal, values near."""
    assert len(ours) == len(published)
    for t, (own, theirs) in enumerate(zip(ours, published, strict=True)):
        for what, leaves in theirs.items():
            if what == "living":
                assert own[what] == leaves, f"counts of {t}"
                continue
            assert set(leaves) <= set(own[what])
            for name, leaf in leaves.items():
                value, place = np.asarray(own[what][name]), f"{what} of {t}, {name}"
                if value.dtype == bool:
                    np.testing.assert_array_equal(value, leaf, place)
                else:
                    np.testing.assert_allclose(value, leaf, rtol=rtol, atol=atol, err_msg=place)
