// OpenAI's SDK for Node as an application uses it: `node journeys.mjs JOURNEY MODEL`, one JSON object on stdout.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const [journey, model] = process.argv.slice(2);
const messages = [{ role: "user", content: "Hello!" }];
// The model is random: it is made to say something that can be read.
const chat = { model, messages, max_tokens: 9, structured_outputs: { choice: ["red green blue"] } };
const format = { type: "json_schema", name: "words", schema: { const: "red green blue" } };
const response = { model, input: "Hello!", text: { format } };

const journeys = {
  async chat() {
    const { data, response } = await client.chat.completions
      .create(chat)
      .withResponse();
    const [choice] = data.choices;
    return { id: response.headers.get("x-request-id"), text: choice.message.content, finish: choice.finish_reason, usage: data.usage };
  },

  async chatStream() {
    const { data, response } = await client.chat.completions
      .create({ ...chat, stream: true, stream_options: { include_usage: true } })
      .withResponse();
    const told = { id: response.headers.get("x-request-id"), text: "" };
    for await (const chunk of data) {
      told.text += chunk.choices[0]?.delta.content ?? "";
      told.finish = chunk.choices[0]?.finish_reason ?? told.finish;
      told.usage = chunk.usage ?? told.usage;
    }
    return told;
  },

  async chatHelper() {
    const answer = await client.chat.completions.stream(chat).finalChatCompletion();
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
  },

  async embeddings() {
    const ask = (encoding_format) => client.embeddings.create({ model, input: ["one", "two"], encoding_format });
    const plain = await ask("float");
    const packed = await ask(undefined); // the SDK asks for base64 and unpacks it
    return { plain: plain.data.map((one) => one.embedding), packed: packed.data.map((one) => [...one.embedding]), usage: plain.usage };
  },

  async responsesStream() {
    const stream = await client.responses.create({ ...response, stream: true });
    const told = { types: [], text: "" };
    for await (const event of stream) {
      told.types.push(event.type);
      if (event.type === "response.output_text.delta") told.text += event.delta;
      told.last = event.response ?? told.last;
    }
    return { types: told.types, text: told.text, whole: told.last.output[0].content[0].text, usage: told.last.usage };
  },

  async responsesHelper() {
    const answer = await client.responses.stream(response).finalResponse();
    return { text: answer.output_text, status: answer.status };
  },

  async models() {
    const listed = await client.models.list();
    const one = await client.models.retrieve(model);
    return { listed: listed.data.map((each) => each.id), one: one.id };
  },

  async refused() {
    const asked = [
      client.chat.completions.create({ model: "no-such-model", messages }),
      client.chat.completions.create({ model, messages, temperature: 9 }),
      new OpenAI({ apiKey: "wrong", maxRetries: 0 }).models.list(),
    ];
    const answers = await Promise.allSettled(asked);
    return answers.map(({ reason }) => ({ name: reason.constructor.name, status: reason.status, code: reason.code }));
  },
};

console.log(JSON.stringify(await journeys[journey]()));
