"""What became of each test of a foreign suite, against Apache Kafka and against Odradek.

One JSON file a suite and way of running it, `tests/results/foreign/NAME.json`:
`{test: {target: {state, seconds, reason, failed_before}}}`. A test that fails is run again; that it
passed only then stays visible in `failed_before`. Written after every slice, so that a run which is
ended goes on where it stopped.
"""

import json

from .provision import TESTS

TARGETS = ("apache", "odradek")
RESULTS = TESTS / "results" / "foreign"


class Results:
    """The results of one suite, run in one way, for both targets."""

    def __init__(self, name, folder=RESULTS):
        self.path = folder / f"{name}.json"
        self.tests = self.kept()

    def kept(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def has(self, test, target):
        return target in self.tests.get(test, {})

    def state(self, test, target):
        return self.tests.get(test, {}).get(target, {}).get("state")

    def passed(self, target):
        return {test for test in self.tests if self.state(test, target) == "passed"}

    def put(self, target, outcome):
        # A run against the other target may have written meanwhile.
        self.tests = self.kept()
        for test, what in outcome.items():
            self.tests.setdefault(test, {})[target] = what
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.tests, indent=1, sort_keys=True) + "\n")
        partial.rename(self.path)

    def counts(self, target):
        states = [one[target]["state"] for one in self.tests.values() if target in one]
        return {state: states.count(state) for state in ("passed", "failed", "skipped")}

    def differences(self):
        """[(test, reason)]: passes against Apache Kafka, and not against Odradek."""
        found = []
        for test in sorted(self.tests):
            ours = self.tests[test].get("odradek")
            if self.state(test, "apache") == "passed" and ours and ours["state"] != "passed":
                found.append((test, f"{ours['state']}: {ours['reason']}"))
        return found

    def print(self):
        print(f"{self.path.stem}:")
        for target in TARGETS:
            counts = ", ".join(f"{count} {state}" for state, count in self.counts(target).items())
            print(f"  {target:8} {counts}")
        for test, reason in self.differences():
            print(f"  only Kafka passes {test}: {reason}")


def again_if_failed(run, tries=2):
    """Runs a slice until nothing in it fails, at most `tries` times."""
    before = {}
    for tried in range(tries):
        outcome = run()
        for test, what in outcome.items():
            if test in before:
                what["failed_before"] = before[test]
        failed = {test: what for test, what in outcome.items() if what["state"] == "failed"}
        if not failed:
            break
        before = {test: what["reason"] for test, what in failed.items()}
    return outcome
