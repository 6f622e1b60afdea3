"""How the pictures of `octavo bench` look: one finding as the title, quiet axes, labels beside what they name.

The colours are Okabe and Ito's, which people with colour-blindness tell apart."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BASELINE = "#7F7F7F"
OCTAVO = "#0072B2"
WASTE = "#E69F00"
INK = "#222222"
FAINT = "#DDDDDD"

_INCHES_WIDE, _DPI = 10.0, 144
_HEAD_INCHES, _FOOT_INCHES = 1.15, 1.0


def figure(title: str, subtitle: str, footnote: str, *, inches_high: float = 5.6) -> Figure:
    """An empty figure 1,440 pixels wide. `title` says the finding in one line, `subtitle` what was done, `footnote`
    when and where."""
    picture = Figure(figsize=(_INCHES_WIDE, inches_high), dpi=_DPI, facecolor="white")
    picture.text(
        0.03,
        1 - 0.30 / inches_high,
        title,
        fontsize=min(16, 16 * 70 / len(title)),
        fontweight="bold",
        color=INK,
        va="center",
    )
    picture.text(0.03, 1 - 0.64 / inches_high, subtitle, fontsize=10.5, color=INK, va="center")
    picture.text(0.03, 0.10 / inches_high, footnote, fontsize=8, color=BASELINE, va="bottom", linespacing=1.4)
    picture.subplots_adjust(
        left=0.09, right=0.95, top=1 - _HEAD_INCHES / inches_high, bottom=_FOOT_INCHES / inches_high, wspace=0.28
    )
    return picture


def quiet(axes: Axes, *, x: str = "", y: str = "") -> None:
    """Axis labels with units, light horizontal lines, no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(BASELINE)
    axes.tick_params(colors=INK, length=3, labelsize=9.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, fontsize=10.5, color=INK)
    axes.set_ylabel(y, fontsize=10.5, color=INK)


def label(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A name right beside the end of a line, in its colour, so that no legend is needed."""
    axes.annotate(text, (x, y), xytext=(10, 0), textcoords="offset points", va="center", fontsize=10.5, color=colour)
