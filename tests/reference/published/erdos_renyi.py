"""Erdős–Rényi densities: as those of the kernel, with the two fans alone in the ratio."""

from tests.reference.published import erk

ABOUT = {**erk.ABOUT, "paper": "Mocanu et al., 2018"}


def rounds(densities: list[float]) -> list[dict]:
    return [{"living": erk.counts(density, _ratio)} for density in densities]


def _ratio(shape: tuple[int, ...]) -> float:
    fan_in, fan_out = shape[-2:]
    return (fan_in + fan_out) / (fan_in * fan_out)
