// Numbers, sizes and times as people read them. Pure functions; no state but the formatters.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const MINUS = "\u2212";

/** 12,345; a dash where there is no number. */
export function count(value) {
  return Number.isFinite(value) ? whole.format(value) : "–";
}

/** Three significant digits, thousands separated: 0.42, 8.39, 8,394. */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 100) return whole.format(value);
  const digits = Math.abs(value) >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

/** 1,536 bytes is "1.50 KiB". */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? whole.format(value) : value.toPrecision(3)} ${units[unit]}`;
}

/** 93784 seconds is "1 d 2 h"; two units at most. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** How long ago, from milliseconds: "just now", "12 s ago", "3 min ago". */
export function age(ms) {
  if (!Number.isFinite(ms)) return "never";
  if (ms < 1500) return "just now";
  if (ms < 60_000) return `${Math.round(ms / 1000)} s ago`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min ago`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h ago`;
  return `${Math.round(ms / 86_400_000)} days ago`;
}

/** A price with the digits it needs: 46.04, 61,234.5, 0.08123. */
export function price(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 10_000 ? 1 : size >= 1 ? 2 : 5;
  return new Intl.NumberFormat("en", {
    minimumFractionDigits: Math.min(digits, 2),
    maximumFractionDigits: digits,
  }).format(value);
}

/** 0.0123 is "1.23 %"; with `signed`, "+1.23 %". */
export function percent(value, digits = 1, signed = false) {
  if (!Number.isFinite(value)) return "–";
  const text = `${Math.abs(value * 100).toFixed(digits)} %`;
  if (value < 0 && Number((value * 100).toFixed(digits)) !== 0) return MINUS + text;
  return (signed ? "+" : "") + text;
}

/** A return in basis points, hundredths of a percent: 0.00019 is "+1.9 bp". */
export function basisPoints(value, signed = true) {
  if (!Number.isFinite(value)) return "–";
  const sign = value < 0 ? MINUS : signed ? "+" : "";
  return `${sign}${Math.abs(value * 10_000).toFixed(1)} bp`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const dayMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});

export const timeOfDay = (ms) => clock.format(ms);
export const timeOfDaySeconds = (ms) => clockSeconds.format(ms);
export const dayOfMonth = (ms) => dayMonth.format(ms);
export const dateTime = (ms) => full.format(ms);

/** For a tooltip: "2026-11-22 21:48:00 UTC". */
export function utc(ms) {
  return `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "2013-01-05" is "5 Jan 2013"; a day of a calendar, in no zone. */
export function civilDay(text, withYear = true) {
  const date = new Date(`${text}T00:00:00Z`);
  if (Number.isNaN(date.getTime())) return text;
  return new Intl.DateTimeFormat("en-GB", {
    day: "numeric",
    month: "short",
    year: withYear ? "numeric" : undefined,
    timeZone: "UTC",
  }).format(date);
}

/** A whole number with a minus that is as wide as a plus. */
export const minus = (value) => String(value).replace("-", MINUS);

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
