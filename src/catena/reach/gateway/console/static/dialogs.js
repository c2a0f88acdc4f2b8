// The dialogs: settings, shortcuts, access key, and a question before something is deleted.
import { keepKey } from "./api.js";
import { download, fill, h, icon } from "./dom.js";
import { deleteAllChats, listChats } from "./history.js";
import { currentLanguage, LANGUAGES, setLanguage } from "./i18n.js";
import { preferences, savePreferences } from "./preferences.js";
import { currentTheme, setTheme, THEMES } from "./theme.js";

let number = 0;

function openDialog(titleKey, className, ...content) {
  number += 1;
  const id = `dialog-${number}`;
  const dialog = h("dialog", { class: `dialog ${className}`, "aria-labelledby": id });
  const close = h("button", { type: "button", class: "quiet", sayLabel: "dialog.close", onclick: () => dialog.close() }, icon("close"));
  const head = h("div", { class: "dialog-head" }, h("h2", { id, say: titleKey }), close);
  fill(dialog, head, h("div", { class: "dialog-body" }, ...content));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Whether some dialog is open. */
export function isDialogOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/** Ask before doing something that cannot be undone. Resolves to true or false. */
export function confirmed(titleKey, textKey, actionKey) {
  return new Promise((resolve) => {
    let answer = false;
    const act = h("button", {
      type: "button",
      class: "danger",
      say: actionKey,
      onclick: () => {
        answer = true;
        dialog.close();
      },
    });
    const leave = h("button", { type: "button", class: "plain", say: "dialog.cancel", autofocus: true, onclick: () => dialog.close() });
    const dialog = openDialog(titleKey, "narrow", h("p", { say: textKey }), h("div", { class: "row end" }, leave, act));
    dialog.addEventListener("close", () => resolve(answer));
  });
}

function choices(name, legendKey, values, chosen, onChange, textOf) {
  const options = values.map((value) => h(
    "label",
    null,
    h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onChange(value) }),
    textOf(value),
  ));
  return h("fieldset", { class: "choices" }, h("legend", { say: legendKey }), h("div", { class: "segments" }, options));
}

function field(id, labelKey, helpKey, input) {
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-help`);
  return h("div", { class: "field" }, h("label", { for: id, say: labelKey }), input, h("p", { class: "help", id: `${id}-help`, say: helpKey }));
}

/** Language, theme, how to answer, and the history kept here. `onDeleted()` after all of it was deleted. */
export function openSettings(onDeleted) {
  const saved = preferences();
  const keep = (name) => (event) => savePreferences({ [name]: event.target.value });
  const instructions = h("textarea", { rows: "3", onchange: keep("instructions") });
  instructions.value = saved.instructions;
  const warmth = h("input", { type: "number", min: "0", max: "2", step: "0.1", value: saved.temperature, onchange: keep("temperature") });
  const length = h("input", { type: "number", min: "1", step: "1", value: saved.maxTokens, onchange: keep("maxTokens") });
  const languageText = (value) => h("span", { lang: value === "zh" ? "zh-CN" : "en" }, LANGUAGES[value]);
  openDialog(
    "settings.title",
    "settings",
    choices("language", "settings.language", Object.keys(LANGUAGES), currentLanguage(), setLanguage, languageText),
    choices("theme", "settings.theme", THEMES, currentTheme(), setTheme, (value) => h("span", { say: `theme.${value}` })),
    h("h3", { say: "settings.answers" }),
    field("instructions", "settings.instructions", "settings.instructionsHelp", instructions),
    h("div", { class: "pair" },
      field("warmth", "settings.temperature", "settings.temperatureHelp", warmth),
      field("length", "settings.maxTokens", "settings.maxTokensHelp", length)),
    h("h3", { say: "history.title" }),
    h("p", { class: "help", say: "history.where" }),
    h("div", { class: "row" },
      h("button", { type: "button", class: "plain", id: "export-history", onclick: exportHistory }, icon("download"), h("span", { say: "history.export" })),
      h("button", { type: "button", class: "plain", id: "delete-history", onclick: () => removeAll(onDeleted) }, icon("trash"), h("span", { say: "history.deleteAll" }))),
  );
}

async function exportHistory() {
  const chats = await listChats();
  download("catena-conversations.json", JSON.stringify({ format: "catena.conversations/1", chats }, null, 2));
}

async function removeAll(onDeleted) {
  if (!(await confirmed("history.deleteAll", "history.deleteAllText", "history.deleteAll"))) return;
  await deleteAllChats();
  document.dispatchEvent(new CustomEvent("catena:say", { detail: "history.deleted" }));
  onDeleted();
}

const SHORTCUTS = [
  [["Enter"], "shortcut.send"],
  [["Shift", "Enter"], "shortcut.line"],
  [["Esc"], "shortcut.stop"],
  [["/"], "shortcut.focus"],
  [["Alt", "N"], "shortcut.new"],
  [["Alt", "R"], "shortcut.receipt"],
  [["?"], "shortcut.help"],
];

/** The keys that do something. */
export function openShortcuts() {
  const rows = SHORTCUTS.map(([keys, key]) => h("div", null, h("dt", null, keys.map((name) => h("kbd", null, name))), h("dd", { say: key })));
  openDialog("shortcuts.title", "narrow", h("dl", { class: "shortcuts" }, rows));
}

/** Ask for an access key; it is kept for this tab only. Calls `onKey()` once there is one. */
export function openAccess(onKey) {
  if (document.querySelector("dialog.access")) return;
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const form = h("form", {
    class: "stack",
    onsubmit: (event) => {
      event.preventDefault();
      keepKey(input.value.trim());
      dialog.close();
      onKey();
    },
  }, field("access-key", "access.label", "access.help", input), h("div", { class: "row end" }, h("button", { type: "submit", class: "primary", say: "access.use" })));
  const dialog = openDialog("access.title", "narrow access", h("p", { say: "access.text" }), form);
  input.focus();
}
