"""What differs in a case, and which differences are allowed (allowed.toml)."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from differential.normal import Normaliser, differences

ALLOWED = Path(__file__).with_name("allowed.toml")


@dataclass
class Difference:
    place: str
    asked: object
    field: str
    theirs: object
    ours: object

    @property
    def at(self):
        """What an allowance's `at` is matched with."""
        return f"{self.place}: {self.field}"

    def __str__(self):
        return (f"{self.at}\n    Kafka: {short(self.theirs)}\n    here:  {short(self.ours)}\n"
                f"    to:    {short(self.asked)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + " …"


class Allowance:
    def __init__(self, row):
        assert row.keys() == {"case", "at", "reason"} and row["reason"].strip(), row
        self.reason = row["reason"]
        self.case, self.at = row["case"], row["at"]
        self.case_pattern, self.at_pattern = pattern(self.case), pattern(self.at)
        self.used = False

    def of_case(self, case):
        return self.case_pattern.fullmatch(case)

    def allows(self, case, difference):
        return self.of_case(case) and self.at_pattern.fullmatch(difference.at)


def pattern(text):
    """`*` stands for anything, all else for itself."""
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def allowances():
    return [Allowance(row) for row in tomllib.loads(ALLOWED.read_text())["allowed"]]


def of_case(theirs, ours, stopped):
    """`theirs`, `ours`: the exchanges of the case; `stopped`: why it went no further with us."""
    found = []
    left, right = Normaliser(), Normaliser()
    for one, other in zip(theirs, ours):
        if one.place != other.place:
            found.append(Difference(one.place, one.asked, "request", one.place, other.place))
            return found
        for field, *values in differences(left.reply(one.asked, one.reply),
                                         right.reply(other.asked, other.reply)):
            found.append(Difference(one.place, one.asked, field, *values))
    if stopped or len(theirs) != len(ours):
        next_one = theirs[len(ours)] if len(ours) < len(theirs) else theirs[-1]
        found.append(Difference(next_one.place, next_one.asked, "the case stopped", "it went on",
                                stopped or "it asked more"))
    return found
