// Asks a gateway with the official JavaScript client and writes what it found as one line of JSON.
// Usage: node questions.mjs URL PACKAGE_FOLDER
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, folder] = process.argv.slice(2);
const sdk = createRequire(join(folder, "package.json"))("openai");
const OpenAI = sdk.default ?? sdk.OpenAI;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0, timeout: 60_000 });

const model = "smollm2-135m-instruct";
const question = "Name the colours of a traffic light.";
const ask = { model, input: question, max_output_tokens: 8, temperature: 0 };
const chat = { model, messages: [{ role: "user", content: question }], max_tokens: 8, temperature: 0 };
const echo = { model: "echo", input: "one two three" };
const add = {
  type: "function",
  name: "add",
  description: "Add two numbers",
  strict: true,
  parameters: {
    type: "object",
    properties: { a: { type: "integer", enum: [1, 2] }, b: { type: "integer", enum: [3, 4] } },
    required: ["a", "b"],
    additionalProperties: false,
  },
};
const call = { tools: [add], tool_choice: "required", parallel_tool_calls: false, max_output_tokens: 40 };
const form = {
  type: "json_schema",
  name: "light",
  strict: true,
  schema: {
    type: "object",
    properties: { colour: { type: "string", enum: ["red", "green"] } },
    required: ["colour"],
    additionalProperties: false,
  },
};

async function gathered(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function errorOf(work) {
  try {
    await work();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
  return null;
}

async function ended(id) {
  for (let turn = 0; turn < 600; turn++) {
    const response = await client.responses.retrieve(id).catch(() => null); // one in the foreground is kept at its end
    if (response && !["queued", "in_progress"].includes(response.status)) return response;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the response did not end in time");
}

const found = {};
found.models = [];
for await (const one of client.models.list()) found.models.push(one.id);
found.chat = await client.chat.completions.create(chat);
found.chatChunks = await gathered(await client.chat.completions.create({ ...chat, stream: true }));
const chatTool = { type: "function", function: { name: add.name, strict: true, parameters: add.parameters } };
found.chatCall = await client.chat.completions.create({
  ...chat,
  max_tokens: 40,
  tools: [chatTool],
  tool_choice: "required",
  parallel_tool_calls: false,
});
found.embedding = await client.embeddings.create({ model: "bge-small-en-v1.5", input: ["a", "b"] });
found.completion = await client.completions.create({ model, prompt: "One, two,", max_tokens: 4, temperature: 0 });

found.whole = await client.responses.create(ask);
found.events = await gathered(await client.responses.create({ ...ask, stream: true }));
const helper = client.responses.stream(echo);
found.helperKinds = [];
for await (const event of helper) found.helperKinds.push(event.type);
found.helper = await helper.finalResponse();
found.called = await client.responses.create({ ...ask, ...call });
const called = { ...echo, ...call, stream: true };
found.callEvents = await gathered(await client.responses.create(called));
found.parsed = await client.responses.parse({ ...ask, max_output_tokens: 40, text: { format: form } });
found.continued = await client.responses.create({ model: "echo", input: "four", previous_response_id: found.helper.id });
found.items = [];
for await (const item of client.responses.inputItems.list(found.continued.id)) found.items.push(item);
found.counted = await client.responses.inputTokens.count({ model, input: question });
await client.responses.delete(found.continued.id);
found.deleted = await errorOf(() => client.responses.retrieve(found.continued.id));

found.background = await client.responses.create({ ...echo, background: true });
found.polled = await ended(found.background.id);
const following = await client.responses.create({ ...echo, background: true, stream: true });
found.first = [];
for await (const event of following) {
  found.first.push(event);
  if (found.first.length === 4) break;
}
const id = found.first[0].response.id;
found.rest = await gathered(await client.responses.retrieve(id, { stream: true, starting_after: 3 }));
const long = await client.responses.create({ ...ask, max_output_tokens: 4000, ignore_eos: true, background: true });
found.cancelled = await client.responses.cancel(long.id);

found.unknownModel = await errorOf(() => client.responses.create({ ...ask, model: "nope" }));
found.hosted = await errorOf(() => client.responses.create({ ...echo, tools: [{ type: "web_search" }] }));
found.outOfRange = await errorOf(() => client.responses.create({ ...echo, temperature: 3 }));
const wrong = new OpenAI({ baseURL: `${url}/v1`, apiKey: "ctn_00000000_" + "0".repeat(64), maxRetries: 0 });
found.wrongKey = await errorOf(() => wrong.models.list());

const leaving = await client.responses.create({ ...ask, max_output_tokens: 4000, ignore_eos: true, stream: true });
for await (const event of leaving) {
  if (event.type === "response.created") found.left = event.response.id;
  if (event.type === "response.output_text.delta") break;
}
found.leftResponse = await ended(found.left);
console.log(JSON.stringify(found));
