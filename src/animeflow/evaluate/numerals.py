"""How numbers are written for people: enough digits to compare, never more than were measured. Knows floats; knows no
page.
"""

from __future__ import annotations

NOT_RECORDED = "not recorded"


def plain(value: float | None, *, digits: int = 3) -> str:
    """`digits` significant digits, thousands apart: 0.0312, 1.24, 24,000. None is 'not recorded'."""
    if value is None:
        return NOT_RECORDED
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    if abs(value) < 1e-3 or abs(value) >= 1e9:
        mantissa, exponent = f"{value:.{max(0, digits - 1)}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, digits - 1 - _magnitude(value))
    return f"{value:,.{decimals}f}"


def percent(share: float | None, *, decimals: int = 1) -> str:
    return NOT_RECORDED if share is None else f"{100 * share:.{decimals}f} %"


def duration(seconds: float | None) -> str:
    """42.0 s, 7 min 12 s, 3 h 05 min, 2 d 4 h."""
    if seconds is None:
        return NOT_RECORDED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds) // 60, round(seconds) // 3600
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60:02d} s"
    if hours < 48:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def size(num_bytes: float | None) -> str:
    """Binary units: 812 B, 3.4 MiB, 1.2 GiB."""
    if num_bytes is None:
        return NOT_RECORDED
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def axis(value: float, step: float) -> str:
    """A tick's label: as many decimals as its step needs; thousands as k when the step allows."""
    if (abs(step) >= 1000 and step % 1000 == 0) or (abs(step) >= 500 and value % 1000 == 0 and step % 500 == 0):
        return f"{value / 1000:g}k" if value else "0"
    if step < 1e-3 or step >= 1e7:
        return f"{value:.2g}"
    decimals = max(0, -_magnitude(step))
    if decimals and abs(round(step, decimals) - step) > 1e-9 * step:
        decimals += 1
    return f"{value:.{decimals}f}"


def _magnitude(value: float) -> int:
    """Position of the first significant digit: 0 for 1..9.99, -2 for 0.01..0.099."""
    return int(f"{abs(value):e}".split("e")[1])
