// At most ten frames a second, whatever arrives: each job runs once a frame, in an animation frame.

const INTERVAL_MS = 100;
const waiting = new Set();
let planned = false;
let last = 0;

/** Runs `job` with the next frame; asking again before that changes nothing. */
export function draw(job) {
  waiting.add(job);
  if (planned) return;
  planned = true;
  const wait = Math.max(0, last + INTERVAL_MS - performance.now());
  setTimeout(() => requestAnimationFrame(run), wait);
}

function run() {
  planned = false;
  last = performance.now();
  const jobs = [...waiting];
  waiting.clear();
  for (const job of jobs) job();
}
