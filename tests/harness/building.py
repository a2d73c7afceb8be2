"""Small programs of the tests' own in other languages, built when they are asked for."""

import hashlib
import os
import tempfile

from .provision import CACHE, ROOT, attempt, say


def built(source, *command):
    """What the command makes of the source, once for each state of it; the command is told both
    at its end, as `SOURCE -o MADE`."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    kept = CACHE / "tools" / f"odradek-{source.stem}-{digest}"
    if kept.exists():
        return kept
    say(f"building {source.name} into {kept}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        made = os.path.join(scratch, source.stem)
        problem = attempt([*command, str(source), "-o", made], cwd=ROOT)
        assert problem is None, f"{source.name} cannot be built: {problem}"
        os.rename(made, kept)
    return kept
