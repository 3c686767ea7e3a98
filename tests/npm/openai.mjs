// Drives the npm `openai` client against a server, and prints what it saw as one line of JSON.
// Argument: JSON with baseURL, apiKey, refusedKey, model, missingModel, limitedModel.
// A call that should work and fails ends the process with status 1 and the error on stderr.

import OpenAI from 'openai';

const given = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: given.baseURL, apiKey: given.apiKey, maxRetries: 0 });
const messages = [{ role: 'user', content: 'hi' }];
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
    },
  },
];

async function chat() {
  const { data, response, request_id } = await client.chat.completions
    .create({ model: given.model, messages })
    .withResponse();
  return {
    text: data.choices[0].message.content,
    finish: data.choices[0].finish_reason,
    total: data.usage.total_tokens,
    status: response.status,
    requestId: request_id,
  };
}

async function streamed() {
  const stream = await client.chat.completions.create({
    model: given.model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const seen = { text: '', pieces: 0, finish: null, total: null };
  for await (const chunk of stream) {
    const choice = chunk.choices[0];
    seen.text += choice?.delta?.content ?? '';
    seen.pieces += choice?.delta?.content ? 1 : 0;
    seen.finish = choice?.finish_reason ?? seen.finish;
    seen.total = chunk.usage?.total_tokens ?? seen.total;
  }
  return seen;
}

async function streamedTools() {
  const runner = client.chat.completions.stream({ model: given.model, messages, tools });
  const done = await runner.finalChatCompletion();
  const call = done.choices[0].message.tool_calls[0];
  return {
    name: call.function.name,
    arguments: JSON.parse(call.function.arguments),
    finish: done.choices[0].finish_reason,
  };
}

async function responses() {
  const made = await client.responses.create({ model: given.model, input: 'hi' });
  const stream = await client.responses.create({ model: given.model, input: 'hi', stream: true });
  const seen = { text: made.output_text, streamed: '', events: [] };
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') seen.streamed += event.delta;
    if (seen.events.at(-1) !== event.type) seen.events.push(event.type);
  }
  return seen;
}

async function embeddings() {
  const base64 = await client.embeddings.create({ model: given.model, input: ['a', 'b'] });
  const floats = await client.embeddings.create({
    model: given.model,
    input: ['a', 'b'],
    encoding_format: 'float',
  });
  return { base64: base64.data.map((d) => d.embedding), float: floats.data.map((d) => d.embedding) };
}

async function models() {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  return names;
}

async function refused(apiKey, model) {
  const other = new OpenAI({ baseURL: given.baseURL, apiKey, maxRetries: 0 });
  try {
    await other.chat.completions.create({ model, messages });
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return {
      type: error.constructor.name,
      status: error.status,
      code: error.code,
      message: error.message,
      retryAfter: error.headers.get('retry-after'),
    };
  }
  throw new Error(`${model} with ${apiKey} was not refused`);
}

const seen = {
  chat: await chat(),
  streamed: await streamed(),
  tools: await streamedTools(),
  responses: await responses(),
  embeddings: await embeddings(),
  models: await models(),
  unauthorized: await refused(given.refusedKey, given.model),
  missing: await refused(given.apiKey, given.missingModel),
  limited: await refused(given.apiKey, given.limitedModel),
};
console.log(JSON.stringify(seen));
