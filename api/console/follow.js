// A topic as it grows: server-sent events, resumed by the last event's id.
//
// 1. Records are handed over in batches, at most one a frame, so a burst costs one drawing.
// 2. EventSource resumes by itself after a cut; where it gives up (an answer that is no stream), it
//    is opened again with the last cursor, later and later.
// 3. A cursor that the server no longer knows ("problem", 410) means a hole: `onGap` reads anew.
// 4. A browser opens six connections to a host, over all its tabs, and a stream holds one. So a
//    stream takes one of four slots that the tabs share (Web Locks); without one it asks by time.
// 5. A hidden page lets its streams go after a while and resumes them when it is seen again.

import { address, records } from "./api.js";
import { draw } from "./frame.js";

const SLOTS = 4;
const HIDDEN_MS = 20_000;
const ASK_MS = 3_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 20_000;

/**
 * `onRecords(records)` gets what the server has from `from` on. Returns a function that ends it.
 * `from`: "latest", "earliest" or epoch milliseconds.
 */
export function follow(topic, { key = null, from = "latest", onRecords, onGap }) {
  return new Follow(topic, key, from, onRecords, onGap ?? (() => {})).end;
}

class Follow {
  constructor(topic, key, from, onRecords, onGap) {
    Object.assign(this, { topic, key, from, onRecords, onGap });
    this.cursor = null;
    this.arrived = [];
    this.seen = new Map();
    this.newest_ms = null;
    this.retry_ms = RETRY_FIRST_MS;
    this.ended = false;
    this.timer = 0;
    this.hidden_timer = 0;
    this.end = this.end.bind(this);
    this.flush = this.flush.bind(this);
    this.visibility = this.visibility.bind(this);
    document.addEventListener("visibilitychange", this.visibility);
    this.open();
  }

  async open() {
    clearTimeout(this.timer);
    if (this.ended || this.source) return;
    this.free ??= await slot();
    if (this.ended) return this.close();
    if (!this.free) return this.ask();
    const place = this.cursor ? { cursor: this.cursor } : { from: this.from };
    const path = address(this.topic, "stream", { key: this.key, ...place });
    this.source = new EventSource(`api/v1/${path}`);
    this.source.onmessage = (event) => {
      this.retry_ms = RETRY_FIRST_MS;
      this.cursor = event.lastEventId || this.cursor;
      this.take(JSON.parse(event.data));
    };
    this.source.addEventListener("problem", () => this.gap());
    this.source.onerror = () => {
      if (this.source?.readyState === EventSource.CLOSED) this.again();
    };
  }

  /** Without a slot: what came since the newest known time; what was seen is left out. */
  async ask() {
    const from = this.newest_ms ?? (typeof this.from === "number" ? this.from : null);
    const place = from === null ? { order: "desc", limit: 1 } : { from, limit: 1000 };
    try {
      const found = await records(this.topic, { key: this.key, ...place });
      for (const record of found) this.take(record);
    } catch {
      // Asked again below; the state of the server is told in the header.
    }
    if (!this.ended) this.timer = setTimeout(() => this.open(), ASK_MS);
  }

  take(record) {
    if (record.offset <= (this.seen.get(record.partition) ?? -1)) return;
    this.seen.set(record.partition, record.offset);
    this.newest_ms = Math.max(this.newest_ms ?? record.timestamp_ms, record.timestamp_ms);
    this.arrived.push(record);
    draw(this.flush);
  }

  flush() {
    const batch = this.arrived;
    this.arrived = [];
    if (batch.length > 0 && !this.ended) this.onRecords(batch);
  }

  again() {
    this.close();
    const wait = this.retry_ms * (0.75 + Math.random() / 2);
    this.retry_ms = Math.min(this.retry_ms * 2, RETRY_MAX_MS);
    if (!this.ended) this.timer = setTimeout(() => this.open(), wait);
  }

  gap() {
    this.cursor = null;
    this.seen.clear();
    this.again();
    this.onGap();
  }

  visibility() {
    clearTimeout(this.hidden_timer);
    if (document.hidden) this.hidden_timer = setTimeout(() => this.close(), HIDDEN_MS);
    else this.open();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.free?.();
    this.free = null;
  }

  end() {
    this.ended = true;
    clearTimeout(this.hidden_timer);
    document.removeEventListener("visibilitychange", this.visibility);
    this.close();
  }
}

/** A function that frees the slot, or null when the tabs together hold all of them. */
async function slot() {
  // Locks are for secure contexts; over plain HTTP from another machine each tab is on its own.
  if (!navigator.locks) return () => {};
  for (let index = 0; index < SLOTS; index += 1) {
    const free = await new Promise((found) => {
      navigator.locks.request(`odradek-stream-${index}`, { ifAvailable: true }, (lock) => {
        if (!lock) return found(null);
        return new Promise((release) => found(release));
      });
    });
    if (free) return free;
  }
  return null;
}
