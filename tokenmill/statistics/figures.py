"""Numbers as they are written in tables; "–" where there is none."""

from __future__ import annotations


def short(value: float | None) -> str:
    """Return a number to three digits at least, with its SI prefix from 10,000 on."""
    if value is None:
        return "–"
    if value < 10_000:
        return f"{value:.0f}"
    for prefix in "kMGT":
        value /= 1000
        if value < 999.5:
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}{prefix}"
    return f"{value / 1000:.0f}P"


def decimal(value: float | None) -> str:
    """Return a number with two digits after the point."""
    return "–" if value is None else f"{value:.2f}"


def percent(fraction: float | None) -> str:
    """Return a fraction in percent, to two digits below 10 %."""
    return "–" if fraction is None else f"{100 * fraction:.2g}%" if fraction < 0.1 else f"{100 * fraction:.0f}%"
