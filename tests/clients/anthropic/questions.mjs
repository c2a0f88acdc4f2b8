// Asks a gateway with the official TypeScript client and writes what it found as one line of JSON.
// Usage: node questions.mjs URL PACKAGE_FOLDER
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, folder] = process.argv.slice(2);
const sdk = createRequire(join(folder, "package.json"))("@anthropic-ai/sdk");
const Anthropic = sdk.default ?? sdk.Anthropic;
const client = new Anthropic({ baseURL: url, apiKey: "any", maxRetries: 0, timeout: 60_000 });

const ask = {
  model: "smollm2-135m-instruct",
  max_tokens: 8,
  messages: [{ role: "user", content: "Name the colours of a traffic light." }],
};
const add = {
  name: "add",
  description: "Add two numbers",
  input_schema: {
    type: "object",
    properties: { a: { type: "integer", enum: [1, 2] }, b: { type: "integer", enum: [3, 4] } },
    required: ["a", "b"],
    additionalProperties: false,
  },
};
const call = { tools: [add], tool_choice: { type: "any", disable_parallel_tool_use: true }, max_tokens: 60 };

async function errorOf(change) {
  try {
    await client.messages.create({ ...ask, ...change });
  } catch (error) {
    return { name: error.constructor.name, status: error.status, type: error.error?.error?.type, id: error.requestID };
  }
  return null;
}

const found = {};
found.whole = await client.messages.create({ ...ask, temperature: 0 });
const stream = client.messages.stream({ ...ask, temperature: 0 });
found.kinds = [];
for await (const event of stream) found.kinds.push(event.type);
found.streamed = await stream.finalMessage();
found.called = await client.messages.create({ ...ask, ...call });
const calling = client.messages.stream({ ...ask, ...call });
found.callStreamed = await calling.finalMessage();
const use = found.called.content.find((block) => block.type === "tool_use");
found.continued = await client.messages.create({
  ...ask,
  tools: [add],
  tool_choice: { type: "none" },
  messages: [
    ...ask.messages,
    { role: "assistant", content: found.called.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "5" }] },
  ],
});
found.counted = await client.messages.countTokens({ model: ask.model, messages: ask.messages });
found.models = [];
for await (const model of client.models.list({ limit: 1 })) found.models.push(model.id);
found.shown = await client.models.retrieve("default");
found.unknownModel = await errorOf({ model: "nope" });
found.outOfRange = await errorOf({ max_tokens: 0 });
const wrong = new Anthropic({ baseURL: url, apiKey: "ctn_00000000_" + "0".repeat(64), maxRetries: 0 });
found.wrongKey = await wrong.models.list().then(() => null, (error) => error.constructor.name);
const left = client.messages.stream({ ...ask, max_tokens: 2000 });
for await (const event of left) if (event.type === "content_block_delta") break;
left.abort();
found.leftReceipt = left.response?.headers.get("catena-receipt") ?? null;
console.log(JSON.stringify(found));
