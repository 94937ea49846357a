// Numbers, times and words as people read them.

const whole = new Intl.NumberFormat("en");
const dash = "–";

export function count(n) {
  return n === null || n === undefined ? dash : whole.format(n);
}

/** 12,345 as 12.3k, where there is little room. */
export function brief(n) {
  if (n === null || n === undefined) return dash;
  const size = Math.abs(n);
  if (size >= 1e6) return `${trim(n / 1e6)}M`;
  if (size >= 1e4) return `${trim(n / 1e3)}k`;
  return Number.isInteger(n) ? whole.format(n) : trim(n);
}

function trim(n) {
  return Math.abs(n) >= 100 ? n.toFixed(0) : String(Number(n.toFixed(Math.abs(n) >= 10 ? 1 : 2)));
}

export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return dash;
  const shown = share * 100;
  if (shown > 99.9 && shown < 100) return "99.9 %";
  return `${shown >= 99.95 || shown === 0 ? shown.toFixed(0) : shown.toFixed(1)} %`;
}

function money(sign, n) {
  if (n === null || n === undefined) return dash;
  const size = Math.abs(n);
  if (size === 0) return `${sign}0`;
  if (size < 0.01) return `${sign}${Number(n.toPrecision(2)).toFixed(Math.min(8, Math.ceil(-Math.log10(size)) + 1))}`;
  if (size < 1) return `${sign}${n.toFixed(4)}`;
  return sign + n.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

export const usd = (n) => money("$", n);
export const cny = (n) => money("¥", n);

/** Milliseconds as ms, s, min, h or d. */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return dash;
  if (ms < 0) ms = 0;
  if (ms < 1) return ms === 0 ? "0 ms" : "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(2) : s.toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Seconds, to the second: for what is counted while one looks. */
export function age(s) {
  if (s === null || s === undefined) return dash;
  if (s < 1) return "<1 s";
  if (s < 60) return `${Math.floor(s)} s`;
  return duration(Math.floor(s) * 1000);
}

export function since(at, now = Date.now()) {
  return at ? `${age(Math.max(0, (now - Date.parse(at)) / 1000))} ago` : dash;
}

export function until(at, now = Date.now()) {
  const left = (Date.parse(at) - now) / 1000;
  return left <= 0 ? "now" : `in ${age(left)}`;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });

export function clock(at) {
  return at ? clockFormat.format(new Date(at)) : dash;
}

export function clockMS(at) {
  const date = new Date(at);
  return `${clockFormat.format(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** The time, with the day where it is not today. */
export function moment(at) {
  if (!at) return dash;
  const date = new Date(at);
  return date.toDateString() === new Date().toDateString() ? clockFormat.format(date) : `${dayFormat.format(date)} ${clockFormat.format(date)}`;
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
