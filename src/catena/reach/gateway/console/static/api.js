// The one place that talks: always to the origin this page came from, never to another.
import { readEvents } from "./sse.js";

const KEY = "catena.key";
// The OpenAI protocol has names of its own for some of Catena's codes.
const OWN_CODES = {
  context_length_exceeded: "context_overflow",
  invalid_api_key: "unauthenticated",
  rate_limit_exceeded: "busy",
};

/** What went wrong: HTTP status (0 if the gateway was not reached), stable code, sentence, hint, receipt if any. */
export class ApiError extends Error {
  constructor(status, code, message, hint = "", receipt = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.receipt = receipt;
  }
}

/** The access key, kept for this tab only. */
export function keepKey(key) {
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage may be forbidden: the key is then asked for again.
  }
}

function headers(extra = {}) {
  let key = null;
  try {
    key = sessionStorage.getItem(KEY);
  } catch {
    key = null;
  }
  return key ? { ...extra, authorization: `Bearer ${key}` } : extra;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, credentials: "omit", redirect: "error", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

function ownCode(code) {
  return OWN_CODES[code] || code;
}

async function failure(response) {
  let detail = {};
  try {
    detail = (await response.json()).error || {};
  } catch {
    detail = {};
  }
  const code = typeof detail.code === "string" ? ownCode(detail.code) : String(response.status);
  const hint = typeof detail.hint === "string" ? detail.hint : "";
  const message = typeof detail.message === "string" ? detail.message : "";
  if (response.status === 401) document.dispatchEvent(new CustomEvent("catena:locked"));
  return new ApiError(response.status, code, message, hint, response.headers.get("catena-receipt"));
}

/** GET `path` as JSON. Throws ApiError. */
export async function getJson(path, { signal } = {}) {
  const response = await ask(path, { headers: headers(), signal });
  return response.json();
}

/** GET `path` as text. Throws ApiError. */
export async function getText(path) {
  const response = await ask(path, { headers: headers() });
  return response.text();
}

/**
 * Stream a chat completion. Calls: `onOpen({receipt, warning})` with the head, `onSign(text)` for signs of life,
 * `onText(text)` and `onReasoning(text)` for pieces. Resolves to {model, finish, usage} after `[DONE]`.
 * Throws ApiError, also when the stream ends without `[DONE]`; AbortError when `signal` fires.
 */
export async function streamChat(body, { signal, onOpen, onSign, onText, onReasoning }) {
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    headers: headers({ "content-type": "application/json" }),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  const receipt = response.headers.get("catena-receipt");
  onOpen({ receipt, warning: response.headers.get("catena-warning") });
  const end = { model: null, finish: null, usage: null };
  let isDone = false;
  const take = (data) => {
    if (data === "[DONE]") {
      isDone = true;
      return;
    }
    const event = JSON.parse(data);
    if (event.error) {
      const { code, message, hint } = event.error;
      throw new ApiError(event.error.status || 500, ownCode(code || "engine_failed"), message || "", hint || "", receipt);
    }
    end.model = event.model || end.model;
    end.usage = event.usage || end.usage;
    for (const choice of event.choices || []) {
      if (choice.delta?.reasoning_content) onReasoning(choice.delta.reasoning_content);
      if (choice.delta?.content) onText(choice.delta.content);
      end.finish = choice.finish_reason || end.finish;
    }
  };
  try {
    await readEvents(response, take, onSign);
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError(0, "cut", "", "", receipt);
  }
  if (!isDone) throw new ApiError(0, "cut", "", "", receipt);
  return end;
}
