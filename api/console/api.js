// Requests to the server this page came from. A failure is a `Problem` with a sentence to show.

const TIMEOUT_MS = 10_000;

export class Problem extends Error {
  constructor(status, detail, hint) {
    super(hint ? `${detail} (${hint})` : detail);
    this.status = status;
  }
}

export async function get(path) {
  const answer = await ask(path, { headers: { accept: "application/json" } });
  return answer.json();
}

export async function post(path) {
  await ask(path, { method: "POST" });
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(`api/v1/${path}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...options,
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Problem(0, late ? "no answer within 10 seconds" : "the server cannot be reached");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const detail = said.detail ?? `the server answered ${answer.status}`;
  throw new Problem(answer.status, detail, said.hint);
}

/** `topics/stocks.bars.1m/records?key=GM&limit=1`; parameters that are null are left out. */
export function address(topic, verb, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined) query.set(name, value);
  }
  return `topics/${encodeURIComponent(topic)}/${verb}?${query}`;
}

/** One page of records, by time. */
export async function records(topic, parameters) {
  return (await get(address(topic, "records", parameters))).records;
}

/** The newest records, oldest first. */
export async function newest(topic, limit, key = null) {
  return (await records(topic, { order: "desc", limit, key })).reverse();
}

/**
 * Calls `work` now and then again `interval_ms` after it ended; rests while the page is hidden.
 * Returns a function that ends it.
 */
export function poll(interval_ms, work) {
  let ended = false;
  let timer = 0;
  const round = async () => {
    clearTimeout(timer);
    if (!document.hidden) await work();
    if (!ended) timer = setTimeout(round, interval_ms);
  };
  const seen = () => {
    if (!document.hidden && !ended) {
      clearTimeout(timer);
      timer = setTimeout(round, 0);
    }
  };
  document.addEventListener("visibilitychange", seen);
  round();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
