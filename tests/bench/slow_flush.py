"""A disk whose flush takes longer than this machine's (`slow_flush.c`)."""

from pathlib import Path

from harness.building import built

SOURCE = Path(__file__).with_name("slow_flush.c")


def environment(flush_ms):
    """Of a process whose syncs shall take so much longer; empty for none."""
    if not flush_ms:
        return {}
    library = built(SOURCE, "cc", "-O2", "-shared", "-fPIC", "-pthread")
    return {"LD_PRELOAD": str(library), "SLOW_FLUSH_MS": str(flush_ms)}
