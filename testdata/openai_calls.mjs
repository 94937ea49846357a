// Calls Forebay with OpenAI's own client, as a program does that changed its base URL and nothing else.
// Usage: node openai_calls.mjs BASE_URL WHAT
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, what] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none' });
const messages = [{ role: 'user', content: 'A forebay is the pool where water waits. It waits for the gate. Then it falls.' }];

const tests = {
  async chat() {
    const { data, response, request_id } = await client.chat.completions.create({ model: 'fast_summary', messages }).withResponse();
    assert.equal(data.object, 'chat.completion');
    assert.ok(data.choices[0].message.content.length > 0);
    assert.equal(response.headers.get('x-forebay-job'), request_id);
    assert.equal(data._request_id, request_id);
  },

  async stream() {
    const whole = await client.chat.completions.create({ model: 'tier:low', messages, n: 2, temperature: 0 });
    const stream = await client.chat.completions.create({
      model: 'tier:low', messages, n: 2, temperature: 0, stream: true, stream_options: { include_usage: true },
    });
    const texts = ['', ''], reasons = [];
    let usage = null;
    for await (const chunk of stream) {
      assert.equal(chunk.object, 'chat.completion.chunk');
      for (const choice of chunk.choices) {
        texts[choice.index] += choice.delta.content ?? '';
        reasons[choice.index] ??= choice.finish_reason;
      }
      usage = chunk.usage ?? usage;
    }
    assert.deepEqual(texts, whole.choices.map((choice) => choice.message.content));
    assert.deepEqual(reasons, ['stop', 'stop']);
    assert.ok(usage.total_tokens > 0);
    const runner = client.chat.completions.stream({ model: 'gpt-4.1-mini', messages });
    assert.ok((await runner.finalChatCompletion()).choices[0].message.content.length > 0);
  },

  async embeddings() { // the client asks for base64, and decodes it
    const { data, usage } = await client.embeddings.create({ model: 'text-embedding-3-small', input: ['one', 'two'] });
    assert.equal(data.length, 2);
    assert.ok(data[0].embedding.length > 100 && data[0].embedding.every((x) => typeof x === 'number' && Math.abs(x) <= 1));
    assert.ok(usage.prompt_tokens > 0);
  },

  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    for (const name of ['gpt-4.1-mini', 'fast_summary', 'tier:low']) assert.ok(names.includes(name), name);
    assert.equal((await client.models.retrieve('tier:low')).owned_by, 'tier');
    await assert.rejects(client.models.retrieve('org/none'), OpenAI.NotFoundError);
  },

  async errors() {
    await assert.rejects(client.chat.completions.create({ model: 'gpt-0', messages }), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.deepEqual([error.code, error.param, error.type], ['model_not_found', 'model', 'invalid_request_error']);
      return true;
    });
    await assert.rejects(client.chat.completions.create({ model: 'text-embedding-3-small', messages }), OpenAI.BadRequestError);
    await assert.rejects(client.embeddings.create({ model: 'fast_summary', input: 'x' }), OpenAI.BadRequestError);
    await assert.rejects(client.chat.completions.create({ model: 'fast_summary', messages: [] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, String(error));
      assert.ok(!error.message.includes('(job '), `the provider's own words, not ours: ${error.message}`);
      return true;
    });
  },

  async retry() { // each try gives up before the answer is there; the tries share one job
    const { response } = await client.chat.completions.create({ model: 'fast_summary', messages }, { timeout: 400, maxRetries: 8 }).withResponse();
    console.log(response.headers.get('x-forebay-job'));
  },

  async killed() {
    const { response } = await client.chat.completions.create({ model: 'fast_summary', messages }).withResponse();
    console.log(response.headers.get('x-forebay-job'));
  },
};

await tests[what]();
