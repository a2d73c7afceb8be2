// The style sheet's colours for the canvases, and a word when light and dark change places.

const listeners = new Set();
let cache = new Map();

/** The value of `--name` as it is now. */
export function colour(name) {
  if (!cache.has(name)) {
    cache.set(
      name,
      getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),
    );
  }
  return cache.get(name);
}

/** The same with an opacity; the style sheet's colours are #rrggbb. */
export function faded(name, opacity) {
  const alpha = Math.round(opacity * 255)
    .toString(16)
    .padStart(2, "0");
  return colour(name) + alpha;
}

export function onThemeChange(listener) {
  listeners.add(listener);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  cache = new Map();
  for (const listener of listeners) listener();
});

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
