// Elements without innerHTML: nothing that comes from a topic can become markup.

import { dateTime, utc } from "./format.js";

export const byId = (id) => document.getElementById(id);

/** `element("p", { class: "quiet", title: "…" }, "text", child)`; null and false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== false));
  return made;
}

/** Writes only what differs, so that a selection, a focus and a screen reader are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  const text = String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** A time in the browser's zone, with UTC where the pointer rests. */
export function timeElement(ms, text = dateTime(ms)) {
  return element("time", { datetime: new Date(ms).toISOString(), title: utc(ms) }, text);
}

/** One calm sentence where something is not there yet. */
export function note(text) {
  return element("p", { class: "note" }, text);
}
