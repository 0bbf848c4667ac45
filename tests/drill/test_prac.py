"""A search on few examples that is killed again and again ends in the records, sets and tickets of the unbroken one."""

import pytest

from tests.drill import _runs

pytestmark = pytest.mark.slow

PRAC = ("prac.py", "--preset", "lenet_mnist5k", "--rounds", "2", "--epochs", "3", "--seeds", "1")
MOMENTS = ("checkpoint/state_*", "seed_0/rounds/prac/level_000", "seed_0/prac", "seed_0/rounds/hard/level_001")


def test_killed_in_rounds_between_them_and_between_tickets(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _runs.finish(_runs.start(PRAC, whole))
    kills = 0
    for moment in MOMENTS:
        condition = _runs.new(broken, moment)
        process = _runs.start(PRAC, broken)
        if _runs.wait_until(condition, process):
            _runs.kill(process)
            kills += 1
    _runs.finish(_runs.start(PRAC, broken))
    assert kills == len(MOMENTS)
    found, expected = (_runs.contents(_runs.folder_in(out)) for out in (broken, whole))
    assert not _runs.differences(found, expected)
    sets = sorted(_runs.folder_in(whole).glob("seed_0/sets/*.json"))
    assert len(sets) == 2
    for file in sets:
        mine = _runs.folder_in(broken) / file.relative_to(_runs.folder_in(whole))
        assert mine.read_text() == file.read_text()
    assert not (_runs.folder_in(broken) / "checkpoint").exists()
