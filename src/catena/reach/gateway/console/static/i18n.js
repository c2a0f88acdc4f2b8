// The page in the user's language: every text is bound to a key, and follows a change of language in place.
import en from "./en.js";
import zh from "./zh.js";

export const LANGUAGES = { en: "English", zh: "中文" };
const DICTIONARIES = { en, zh };
const bound = new WeakMap();
let language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";

/** The language in force: `en` or `zh`. */
export function currentLanguage() {
  return language;
}

/** The text for `key` with `{name}` replaced from `parameters` (values, or functions that give them). */
export function t(key, parameters = {}) {
  const text = DICTIONARIES[language][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = parameters[name];
    if (value === undefined) return whole;
    return String(typeof value === "function" ? value() : value);
  });
}

/** Whether the dictionary knows `key`. */
export function knows(key) {
  return key in en;
}

/** Keep `attribute` of `element` (its text if null) at the text of `spoken`: a key, or [key, parameters]. */
export function bind(element, attribute, spoken) {
  const [key, parameters] = Array.isArray(spoken) ? spoken : [spoken, {}];
  const entries = (bound.get(element) || []).filter((entry) => entry.attribute !== attribute);
  entries.push({ attribute, key, parameters });
  bound.set(element, entries);
  element.setAttribute("data-said", "");
  apply(element);
}

/** Speak `chosen` from now on, remember it on this machine, and tell listeners. */
export function setLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  try {
    localStorage.setItem("catena.language", chosen);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  for (const element of document.querySelectorAll("[data-said]")) apply(element);
  document.dispatchEvent(new CustomEvent("catena:language"));
}

function apply(element) {
  for (const { attribute, key, parameters } of bound.get(element) || []) {
    const text = t(key, parameters);
    if (attribute === null) element.textContent = text;
    else element.setAttribute(attribute, text);
  }
}

function locale() {
  return language === "zh" ? "zh-CN" : "en-GB";
}

/** A Unix time in nanoseconds as a date and a time of day. */
export function whenText(ns) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "long", timeStyle: "medium" }).format(new Date(ns / 1e6));
}

/** A Unix time in milliseconds as short as it stays clear: the time today, the date before. */
export function shortWhen(ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  const form = isToday ? { hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric" };
  return new Intl.DateTimeFormat(locale(), form).format(date);
}

/** A whole number with separators. */
export function countText(value) {
  return new Intl.NumberFormat(locale()).format(value);
}

/** Seconds, as short as it stays clear. */
export function secondsText(seconds) {
  if (seconds < 1) return t("unit.ms", { n: Math.max(1, Math.round(seconds * 1000)) });
  if (seconds < 90) return t("unit.s", { n: seconds < 10 ? seconds.toFixed(1) : Math.round(seconds) });
  return t("unit.min", { n: Math.round(seconds / 60) });
}

/** Bytes in binary units. */
export function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
