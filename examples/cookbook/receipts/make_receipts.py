#!/usr/bin/env python3
"""Draws the receipts of this folder and writes the rows about them. Yours are photographs; needs Pillow.

Eight receipts, three questions about each. Questions about one receipt stay on one side: the last two receipts are
evaluated on and never trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
SYSTEM = (
    "You read receipts. Answer with what is printed, nothing else: amounts with a point and two decimals, dates as "
    "YYYY-MM-DD. Of what is not on the receipt say: not on the receipt; in JSON, null."
)
ALL_OF_IT = "Read this receipt as JSON with merchant, date, currency, items (name, amount), vat and total."
HELD_OUT = 2
WIDTH, MARGIN, LINE = 340, 20, 24  # pixels
PAPER, INK, GREYS = 236, 40, 16


@dataclass(frozen=True)
class Receipt:
    """What is printed, and what is asked about it beside everything."""

    merchant: str
    place: str
    printed_date: str
    date: str
    currency: str
    items: tuple[tuple[str, str], ...]
    vat: str | None
    paid: str
    questions: tuple[tuple[str, str], tuple[str, str]]
    point: str = "."
    tilt: float = 0.0  # degrees

    @property
    def total(self) -> Decimal:
        """The sum of the items, in which the VAT is contained."""
        return sum((Decimal(amount) for _, amount in self.items), Decimal(0))

    def content(self) -> dict[str, Any]:
        """All of it, in the form that the rows teach."""
        items = [{"name": name, "amount": amount} for name, amount in self.items]
        head = {"merchant": self.merchant, "date": self.date, "currency": self.currency}
        return {**head, "items": items, "vat": self.vat, "total": str(self.total)}

    def lines(self) -> list[tuple[str, str]]:
        """The lines between head and foot, with the amount at the right."""
        amounts = [(name, amount.replace(".", self.point)) for name, amount in self.items]
        total = ("TOTAL " + self.currency, str(self.total).replace(".", self.point))
        vat = [("incl. VAT", self.vat.replace(".", self.point))] if self.vat else []
        return [*amounts, ("", ""), total, *vat, ("", ""), (self.paid, "")]


RECEIPTS = (
    Receipt(
        "CAFE MORAVA", "Brno", "12.03.2026  09:41", "2026-03-12", "EUR",
        (("Flat white", "3.40"), ("Croissant", "2.80"), ("Orange juice", "3.90")), "0.92", "Card **** 2217",
        (("How much was the orange juice?", "3.90"), ("How was it paid?", "Card **** 2217")),
        point=",", tilt=0.8,
    ),
    Receipt(
        "TAXI 4400", "Porto", "2026-02-27 23:15", "2026-02-27", "EUR",
        (("Fare 11.2 km", "14.75"), ("Night supplement", "2.10")), None, "Cash",
        (("Which VAT is on it?", "not on the receipt"), ("How many kilometres were driven?", "11.2")), tilt=-1.2,
    ),
    Receipt(
        "HOTEL LINDENHOF", "Zurich", "5 MAR 2026", "2026-03-05", "CHF",
        (("Room, 2 nights", "338.00"), ("City tax", "7.00"), ("Breakfast x2", "44.00")), "14.61", "Card **** 9034",
        (("What is the total?", "389.00"), ("How many nights?", "2")),
    ),
    Receipt(
        "PAPER & CO", "Cork", "18/02/2026 14:02", "2026-02-18", "EUR",
        (("Notebook A5 x3", "11.97"), ("Pencils", "4.50"), ("Stapler", "12.49"), ("Staples", "1.80")), "5.75",
        "Card **** 2217", (("Which article was the most expensive?", "Stapler"), ("When was it bought?", "2026-02-18")),
        tilt=1.5,
    ),
    Receipt(
        "STATION OIL", "Lyon", "01.03.2026 07:20", "2026-03-01", "EUR",
        (("Diesel 38.41 l", "63.00"), ("Screenwash", "6.99")), "11.67", "Card **** 9034",
        (("How many litres?", "38.41"), ("What is the VAT?", "11.67")), point=",",
    ),
    Receipt(
        "GREEN BOWL", "Hamburg", "2026-03-10 12:48", "2026-03-10", "EUR",
        (("Lunch menu x4", "51.60"), ("Water 1 l", "4.20"), ("Espresso x4", "10.00")), "4.30", "Cash",
        (("How many lunches were there?", "4"), ("What is the phone number of the restaurant?", "not on the receipt")),
        tilt=-0.6,
    ),
    Receipt(
        "MUSEUM SHOP", "Vienna", "8 MAR 2026", "2026-03-08", "EUR",
        (("Catalogue", "29.90"), ("Postcards x5", "7.50")), "3.40", "Card **** 2217",
        (("Which currency?", "EUR"), ("How many postcards?", "5")), tilt=1.0,
    ),
    Receipt(
        "PARKING P3", "Basel", "2026-03-06 18:55", "2026-03-06", "CHF",
        (("Parking 9 h 30 min", "28.50"),), "2.14", "Cash",
        (("Who issued it?", "PARKING P3"), ("What is the total?", "28.50")), point=",", tilt=-1.0,
    ),
)  # fmt: skip


def draw(receipt: Receipt) -> Image.Image:
    """The receipt as a scanner would see it: grey paper, not quite straight."""
    lines = receipt.lines()
    image = Image.new("L", (WIDTH, 2 * MARGIN + LINE * (len(lines) + 5)), PAPER)
    pen = ImageDraw.Draw(image)
    plain, large = ImageFont.load_default(15), ImageFont.load_default(21)
    pen.text((WIDTH / 2, MARGIN), receipt.merchant, INK, large, anchor="mt")
    pen.text((WIDTH / 2, MARGIN + 1.3 * LINE), receipt.place, INK, plain, anchor="mt")
    pen.text((WIDTH / 2, MARGIN + 2.3 * LINE), receipt.printed_date, INK, plain, anchor="mt")
    for number, (left, right) in enumerate(lines):
        y = MARGIN + LINE * (number + 4)
        pen.text((MARGIN, y), left, INK, plain)
        pen.text((WIDTH - MARGIN, y), right, INK, plain, anchor="ra")
    tilted = image.rotate(receipt.tilt, Image.Resampling.BICUBIC, expand=True, fillcolor=PAPER)
    return tilted.quantize(GREYS)


def rows(number: int, receipt: Receipt) -> list[dict[str, Any]]:
    """Everything on the receipt, and two questions about it."""
    everything = json.dumps(receipt.content(), ensure_ascii=False)
    return [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"<image>{question}"},
                {"role": "assistant", "content": answer},
            ],
            "images": [image_name(number)],
        }
        for question, answer in ((ALL_OF_IT, everything), *receipt.questions)
    ]


def image_name(number: int) -> str:
    """Relative to the files of rows, as the rows name it."""
    return f"images/{number:02}.png"


def files() -> dict[str, str]:
    """The files of rows, by name."""
    every = [rows(number, receipt) for number, receipt in enumerate(RECEIPTS, start=1)]
    parts = {"rows.jsonl": every[:-HELD_OUT], "held-out.jsonl": every[-HELD_OUT:]}
    return {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for part in found for row in part)
        for name, found in parts.items()
    }


def main() -> None:
    """Write all of it beside this file."""
    (HERE / "images").mkdir(exist_ok=True)
    for number, receipt in enumerate(RECEIPTS, start=1):
        draw(receipt).save(HERE / image_name(number), optimize=True)
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
