"""The table of mistakes in the manual, from what real clients and the broker said in one run.

A row is a cause. It holds the words that the tests found in the output of each client, and the id
of the broker's diagnosis with the words found in its evidence. The clients' whole text, which may
change from run to run, is only in the JSON.
"""

import json
import re

from .provision import ROOT

PAGE = ROOT / "broker" / "DIAGNOSES.md"
RESULTS = ROOT / "tests" / "results" / "diagnosis.json"
SAID_CHARS_MAX = 600

HEAD = """# What goes wrong at logins, listeners and TLS, and what it is called

Each mistake of this table was made on purpose, with the programs named, by
`tests/suites/test_diagnosis.py`; the words in code are the programs' and the broker's own. Look for
yours, then ask `odradek explain ID` what to write instead. The broker's log and
`/api/v1/diagnostics/connections` say it too, for each connection that went wrong.
`ODRADEK_TEST_UPDATE=1 tests/run diagnosis` makes this page anew.

Clients: {clients}.

| what you see | why | diagnosis | what the broker notes |
| --- | --- | --- | --- |
"""


class Table:
    """What was found, by cause. `why` is {key: sentence} in the order of the page."""

    def __init__(self, why):
        self.why = why
        self.found = []

    def add(self, key, client, sees, diagnosis, notes, said=""):
        """`sees`: what the client says; a word that begins with an asterisk is ours."""
        self.found.append({
            "why": self.why[key], "client": client, "sees": sees, "diagnosis": diagnosis,
            "notes": notes, "said": lasting(said)[:SAID_CHARS_MAX],
        })

    def lines(self):
        """The rows of this run, as Markdown."""
        groups = ([row for row in self.found if row["why"] == why] for why in self.why.values())
        return [line_of(rows) for rows in groups if rows]

    def page(self, clients):
        return HEAD.format(clients=", ".join(clients)) + "\n".join(self.lines()) + "\n"

    def write(self, clients):
        RESULTS.parent.mkdir(exist_ok=True)
        order = list(self.why.values())
        rows = sorted(self.found, key=lambda row: order.index(row["why"]))
        RESULTS.write_text(json.dumps({"clients": clients, "rows": rows}, indent=1) + "\n")
        PAGE.write_text(self.page(clients))

    def missing(self, page):
        """What was found in this run and is not in the page; rows of it may be incomplete here."""
        lines = {line.split(" | ")[1]: line for line in page.splitlines() if line.count(" | ") == 3}
        for row in self.found:
            line = lines.get(row["why"], "")
            parts = [said_by(row), code(row["diagnosis"]), code(row["notes"])]
            yield from (f"{row['client']}: {part}" for part in parts if part not in line)


def lasting(said):
    """Without ports and times, so that the next run says the same."""
    for pattern, instead in (
        (r"(127\.0\.0\.1(?::|', ))\d+(<-\d+)?", r"\1PORT"), (r"after \d+ms", "after N ms"),
        (r"\|\d+\.\d+\|", "|TIME|"), (r", \d+ identical", ", N identical"),
    ):
        said = re.sub(pattern, instead, said)
    return "\n".join(dict.fromkeys(said.splitlines()))


def line_of(rows):
    seen = {}
    for row in rows:
        seen.setdefault(said_by(row), []).append(row["client"])
    clients = "<br>".join(f"{', '.join(names)}: {words}" for words, names in seen.items())
    diagnoses = ", ".join(dict.fromkeys(code(row["diagnosis"]) for row in rows))
    notes = "<br>".join(dict.fromkeys(code(row["notes"]) for row in rows))
    return f"| {clients} | {rows[0]['why']} | {diagnoses} | {notes} |"


def said_by(row):
    return " or ".join(map(code, row["sees"]))


def code(words):
    """As code, unless the words are ours."""
    if words.startswith("*"):
        return words[1:]
    inner = re.sub(r"\s+", " ", words).replace("|", "\\|")
    return f"`{inner}`" if "`" not in inner else f"`` {inner} ``"
