// Which models can be asked, and which one is chosen.
import { getJson } from "./api.js";
import { fill, h } from "./dom.js";
import { preferences, savePreferences } from "./preferences.js";

export class Models extends EventTarget {
  #names = [];
  #default = null;

  constructor() {
    super();
    this.select = h("select", { id: "model", sayLabel: "model.label", disabled: true, onchange: () => this.#choose() });
    this.element = h("div", { class: "model" }, h("label", { for: "model", class: "visually-hidden", say: "model.label" }), this.select);
  }

  /** The name to ask for; `default` until the list has come. */
  get chosen() {
    const { model } = preferences();
    if (this.#names.includes(model)) return model;
    return this.#default || this.#names[0] || "default";
  }

  /** Fetch the list. Throws ApiError. */
  async load() {
    const { data } = await getJson("/v1/models");
    const able = data.filter(({ catena }) => !catena?.task || catena.task === "generate");
    this.#names = able.map(({ id }) => id);
    this.#default = able.find(({ catena }) => catena?.aliases?.includes("default"))?.id;
    const chosen = this.chosen;
    fill(this.select, this.#names.map((name) => h("option", { value: name, selected: name === chosen }, name)));
    this.select.disabled = this.#names.length === 0;
    if (this.#names.length === 0) fill(this.select, h("option", { say: "model.none" }));
    this.dispatchEvent(new Event("loaded"));
  }

  #choose() {
    savePreferences({ model: this.select.value });
  }
}
