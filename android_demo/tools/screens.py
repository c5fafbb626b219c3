"""Draw the app's three screens as one picture, with the app's own words: `python android_demo/tools/screens.py`.

It is a drawing, not a photograph of a phone: where views stand is this script's.
"""

import textwrap
import xml.etree.ElementTree as ElementTree
from html import escape
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, GAP, MARGIN = 280, 560, 30, 20
INK, SOFT, PAPER, BUTTON, ACCENT = "#1c1b1f", "#5f6368", "#ffffff", "#e4e7ec", "#1f4e79"
MINE = ("#b5651d", "#f2cc8f")  # colours of the mug that is learned


def words() -> dict[str, str]:
    """The English strings by name."""
    root = ElementTree.parse(DEMO / "app/src/main/res/values/strings.xml").getroot()
    return {each.get("name", ""): (each.text or "").replace("\\'", "'") for each in root}


class Phone:
    """One screen, filled from the top."""

    def __init__(self, number: int) -> None:
        self.left = GAP + number * (WIDTH + GAP)
        self.y = GAP + 44
        frame = f'x="{self.left}" y="{GAP}" width="{WIDTH}" height="{HEIGHT}" rx="26"'
        self.parts = [f'<rect {frame} fill="{PAPER}" stroke="{INK}" stroke-width="3"/>']

    def text(self, text: str, size: int = 13, color: str = INK, weight: str = "normal", gap: int = 6) -> None:
        for line in textwrap.wrap(text, int((WIDTH - 2 * MARGIN) / (0.53 * size))):
            self.parts.append(
                f'<text x="{self.left + MARGIN}" y="{self.y}" font-size="{size}" fill="{color}" '
                f'font-weight="{weight}">{escape(line)}</text>'
            )
            self.y += round(1.35 * size)
        self.y += gap

    def button(self, text: str, filled: bool = False) -> None:
        fill, ink = (ACCENT, PAPER) if filled else (BUTTON, INK)
        box = f'x="{self.left + MARGIN}" y="{self.y - 8}" width="{WIDTH - 2 * MARGIN}" height="34" rx="6"'
        self.parts.append(f'<rect {box} fill="{fill}"/>')
        self.parts.append(
            f'<text x="{self.left + WIDTH / 2}" y="{self.y + 14}" font-size="13" fill="{ink}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )
        self.y += 44

    def line(self, text: str) -> None:
        self.text(text, 14, gap=0)
        self.parts.append(f'<path d="M{self.left + MARGIN},{self.y - 8}h{WIDTH - 2 * MARGIN}" stroke="{SOFT}"/>')
        self.y += 12

    def bar(self, share: float) -> None:
        whole = WIDTH - 2 * MARGIN
        for length, color in ((whole, BUTTON), (share * whole, ACCENT)):
            self.parts.append(
                f'<rect x="{self.left + MARGIN}" y="{self.y - 6}" width="{length:.0f}" height="6" fill="{color}"/>'
            )
        self.y += 20

    def mug(self, x: int, side: int, ground: str, color: str, stripe: str) -> None:
        """A picture of a mug."""
        place = f'transform="translate({self.left + x} {self.y}) scale({side / 100})"'
        self.parts.append(
            f'<g {place}><rect width="100" height="100" fill="{ground}"/>'
            f'<circle cx="66" cy="52" r="15" fill="none" stroke="{color}" stroke-width="7"/>'
            f'<rect x="24" y="28" width="44" height="50" rx="5" fill="{color}"/>'
            f'<rect x="24" y="44" width="44" height="14" fill="{stripe}"/></g>'
        )


def draw() -> str:
    """The picture as SVG."""
    say = words()
    choosing, learning, result = (Phone(i) for i in range(3))

    choosing.text(say["choosing_title"], 18)
    choosing.text(say["choosing_lead"], 12, SOFT)
    choosing.text(say["bundle_label"], 11, SOFT, gap=0)
    choosing.text("bundle", 14, gap=14)
    choosing.button(say["bundle_choose"])
    choosing.text(f"{say['photos_label']}: {say['photos_count'].replace('%1$d', '3')}", 11, SOFT, gap=0)
    for i, ground in enumerate(("#d8e2dc", "#f4e1d2", "#cfd8e3")):
        choosing.mug(MARGIN + 80 * i, 72, ground, *MINE)
    choosing.y += 92
    choosing.button(say["photos_choose"])
    choosing.text(say["word_label"], 11, SOFT, gap=2)
    choosing.line("my-mug")
    choosing.text(say["initializer_label"], 11, SOFT, gap=2)
    choosing.line("mug")
    choosing.button(say["start"], filled=True)

    learning.text(say["learning_title"].replace("%1$s", "<my-mug>"), 18)
    learning.text(say["phase_running"], 13, gap=14)
    learning.bar(0.45)
    learning.text(say["step_line"].replace("%1$d", "18").replace("%2$d", "40"), 14)
    learning.text(say["time_left"].replace("%1$s", "…"), 14, gap=14)
    learning.text(say["loss_line"].replace("%1$.4f", "…"), 14)
    learning.text(say["held_out_line"].replace("%1$.4f", "…"), 14, gap=14)
    for name in ("memory_line", "temperature_line", "battery_line"):
        learning.text(say[name].replace("%1$.0f", "…").replace("%1$.1f", "…").replace("%1$d %%", "… %"), 12, SOFT)
    learning.y += 16
    learning.button(say["pause"])
    learning.button(say["finish"])

    result.text(say["result_title"].replace("%1$s", "<my-mug>"), 18)
    result.text(say["verdict"].replace("%1$.4f", "…").replace("%2$.4f", "…"), 13, gap=10)
    result.text(say["before"] + " " * 2, 11, SOFT, gap=0)
    result.y -= 15
    result.parts.append(
        f'<text x="{result.left + MARGIN + 124}" y="{result.y}" font-size="11" fill="{SOFT}">{say["after"]}</text>'
    )
    result.y += 8
    result.mug(MARGIN, 112, "#e9ecef", "#8d99ae", "#8d99ae")
    result.mug(MARGIN + 124, 112, "#e9ecef", *MINE)
    result.y += 138
    result.button(say["share"])
    result.button(say["save"])
    result.text(say["prompt_label"].replace("%1$s", "<my-mug>"), 11, SOFT, gap=4)
    result.line("a <my-mug> at the beach")
    result.button(say["draw"])
    result.button(say["start_again"])

    size = f"{3 * WIDTH + 4 * GAP} {HEIGHT + 2 * GAP}"
    parts = "\n".join(part for phone in (choosing, learning, result) for part in phone.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="Roboto, Arial, sans-serif">\n'
        f"<title>The app's three screens: choosing, learning, result</title>\n{parts}\n</svg>\n"
    )


if __name__ == "__main__":
    (DEMO / "screens.svg").write_text(draw())
