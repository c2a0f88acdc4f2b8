// Keys that work on the whole page; those that type text stay out of fields and out of input methods.
import { isDialogOpen } from "./dialogs.js";

const TYPES_TEXT = "input, textarea, select, [contenteditable]";

/** Call the function of `actions` that a key stands for: stop, focus, fresh, receipt, help. */
export function listenForKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || isDialogOpen()) return;
    const action = find(event);
    if (action && actions[action](event) !== false) event.preventDefault();
  });
}

function find(event) {
  const { key, code, altKey, ctrlKey, metaKey } = event;
  if (key === "Escape") return "stop";
  if (altKey && !ctrlKey && !metaKey) return { KeyN: "fresh", KeyR: "receipt" }[code];
  if (altKey || ctrlKey || metaKey || event.target.closest(TYPES_TEXT)) return undefined;
  return { "/": "focus", "?": "help" }[key];
}
