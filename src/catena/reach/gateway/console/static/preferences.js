// What the user chose for the answers: model, instructions, warmth, length; remembered on this machine.

const NAME = "catena.preferences";
const DEFAULTS = { model: "", instructions: "", temperature: "", maxTokens: "" };

/** The stored preferences over the defaults. */
export function preferences() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME) || "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function savePreferences(changes) {
  try {
    localStorage.setItem(NAME, JSON.stringify({ ...preferences(), ...changes }));
  } catch {
    // Without storage they last as long as the page.
  }
}

/** The fields of a request that follow from them. */
export function requestFields() {
  const { temperature, maxTokens } = preferences();
  const fields = {};
  if (temperature !== "" && Number.isFinite(Number(temperature))) fields.temperature = Number(temperature);
  if (maxTokens !== "" && Number(maxTokens) >= 1) fields.max_tokens = Math.floor(Number(maxTokens));
  return fields;
}
