// Builds the page from elements and text nodes only; no string ever becomes markup.
import { bind } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element. Properties: `class`, `on<event>` handlers, `data` (dataset), `say` / `sayLabel` / `sayTitle` /
 * `sayPlaceholder` (a key of the dictionary, or [key, parameters], kept in the user's language), else attributes;
 * null, undefined and false are left out. Children: nodes, strings, nested arrays; null and false are left out.
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  assign(element, properties || {});
  append(element, children);
  return element;
}

/** An SVG element with attributes and children. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  append(element, children);
  return element;
}

/** Put `children` in place of whatever `element` holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

function assign(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "say") bind(element, null, value);
    else if (name.startsWith("say")) bind(element, SPOKEN[name], value);
    else if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

const SPOKEN = {
  sayLabel: "aria-label",
  sayTitle: "title",
  sayPlaceholder: "placeholder",
};

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);
  }
}

const PATHS = {
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M7 7l10 10M17 7L7 17",
  dash: "M6 12h12",
  wait: "M12 7v5l3 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0",
  copy: "M9 9h10v10H9zM5 15V5h10",
  again: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  download: "M12 5v10M7.5 11l4.5 4.5 4.5-4.5M5 19h14",
  gear: "M5 8h8M17 8h2M5 16h2M11 16h8M15 6v4M9 14v4",
  receipt: "M7 4h10v16l-2.5-1.6L12 20l-2.5-1.6L7 20zM10 9h4M10 13h4",
  machine: "M5 6h14v9H5zM9 19h6M12 15v4",
  back: "M11 6l-6 6 6 6M5 12h14",
  outside: "M9 7h8v8M17 7L7 17",
  link: "M10 8H8a4 4 0 0 0 0 8h2M14 8h2a4 4 0 0 1 0 8h-2M9 12h6",
};

/** A small line drawing; decorative, since the text beside it says the same. */
export function icon(name, className = "") {
  return svg(
    "svg",
    { class: `icon ${className}`.trim(), viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name] }),
  );
}

/** The mark of Catena: two links, one closed through the other. */
export function mark(className = "mark") {
  return svg(
    "svg",
    { class: className, viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    svg("rect", { class: "mark-a", x: 2.6, y: 9.6, width: 16, height: 12.8, rx: 6.4 }),
    svg("rect", { class: "mark-b", x: 13.4, y: 9.6, width: 16, height: 12.8, rx: 6.4 }),
    svg("path", { class: "mark-a", d: "M18.6 16a6.4 6.4 0 0 1-4.2 6" }),
  );
}

/** Offer `text` as a file; it is made in this page and goes nowhere else. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const anchor = h("a", { href: address, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
