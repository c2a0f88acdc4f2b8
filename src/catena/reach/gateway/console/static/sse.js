// Reads a server-sent event stream: bytes in any pieces become data events and comments, in order.

/** Takes decoded text in pieces and calls `onData(text)` or `onComment(text)` for each whole line it has seen. */
export class EventLines {
  #rest = "";
  #onData;
  #onComment;

  constructor(onData, onComment) {
    this.#onData = onData;
    this.#onComment = onComment;
  }

  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) this.#take(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  #take(line) {
    if (line.startsWith(":")) this.#onComment(line.slice(1).trim());
    else if (line.startsWith("data:")) this.#onData(line.slice(5).trim());
  }
}

/** Feed the body of `response` through EventLines until it ends; the reader is released however that happens. */
export async function readEvents(response, onData, onComment) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const lines = new EventLines(onData, onComment);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      lines.push(decoder.decode(value, { stream: true }));
    }
    lines.push(`${decoder.decode()}\n`);
  } finally {
    reader.releaseLock();
  }
}
