// What programs do with OpenAI's files and batches. Arguments: the base URL, and what to try.
import assert from 'node:assert/strict';
import OpenAI, { toFile } from 'openai';

const [baseURL, what] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: process.env.FOREBAY_KEY ?? 'none', maxRetries: 0 });
const url = '/v1/chat/completions';
const line = (id, body, change = {}) => JSON.stringify({ custom_id: id, method: 'POST', url, body, ...change });
const ask = (text) => ({ model: 'fast_summary', messages: [{ role: 'user', content: text }] });
const upload = (text) => toFile(Buffer.from(text), 'requests.jsonl').then((file) => client.files.create({ file, purpose: 'batch' }));
const create = (file, more = {}) => client.batches.create({ input_file_id: file.id, endpoint: url, completion_window: '24h', ...more });
const ended = ['failed', 'completed', 'expired', 'cancelled'];

async function end(batch) {
  while (!ended.includes(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await client.batches.retrieve(batch.id);
  }
  return batch;
}

async function linesOf(id) {
  const text = await (await client.files.content(id)).text();
  return text.trimEnd().split('\n').map((line) => JSON.parse(line));
}

const tries = {
  async batch() {
    const document = 'A forebay is the pool where water waits. It waits for the gate. The gate opens, and the turbines turn.';
    const requests = Array.from({ length: 20 }, (_, i) => line(`request-${i}`, ask(`${document} ${i}.`)));
    requests.push(line('nobody', { model: 'nobody', messages: [] }));
    const file = await upload(requests.join('\n'));
    assert.equal(file.purpose, 'batch');
    assert.equal((await client.files.retrieve(file.id)).bytes, file.bytes);
    let batch = await create(file, { metadata: { run: 'nightly' } });
    assert.equal(batch.status, 'validating');
    batch = await end(batch);
    assert.equal(batch.status, 'completed');
    assert.deepEqual(batch.request_counts, { total: 21, completed: 20, failed: 1 });
    assert.equal(batch.metadata.run, 'nightly');
    assert(batch.usage.total_tokens > 0 && batch.completed_at >= batch.created_at);
    const answers = await linesOf(batch.output_file_id);
    assert.deepEqual(answers.map((answer) => answer.custom_id), Array.from({ length: 20 }, (_, i) => `request-${i}`));
    for (const { response, error } of answers) {
      assert.equal(response.status_code, 200);
      assert(response.body.choices[0].message.content.length > 0);
      assert.equal(error, null);
    }
    const [failed, ...others] = await linesOf(batch.error_file_id);
    assert.equal(others.length, 0);
    assert.equal(failed.custom_id, 'nobody');
    assert.equal(failed.response.body.error.code, 'model_not_found');
    const outputs = [];
    for await (const file of client.files.list({ purpose: 'batch_output' })) outputs.push(file.id);
    assert(outputs.includes(batch.output_file_id));
  },

  async pages() {
    const file = await upload(line('a', ask('A text. Another one.')));
    const made = [];
    for (let i = 0; i < 5; i++) made.unshift((await create(file)).id);
    const read = [];
    for await (const batch of client.batches.list({ limit: 2 })) read.push(batch.id);
    assert.deepEqual(read.filter((id) => made.includes(id)), made);
    const files = [];
    for await (const file of client.files.list({ limit: 2, order: 'asc' })) files.push(file.id);
    assert(files.includes(file.id));
    assert.deepEqual(new Set(files).size, files.length);
  },

  async cancel() {
    const requests = Array.from({ length: 2000 }, (_, i) => line(`request-${i}`, ask(`A text ${i}. Another one.`)));
    let batch = await create(await upload(requests.join('\n')));
    batch = await client.batches.cancel(batch.id);
    assert.equal(batch.status, 'cancelling');
    batch = await end(batch);
    assert.equal(batch.status, 'cancelled');
    await assert.rejects(client.batches.cancel(batch.id), (error) => error.status === 409);
  },

  async errors() {
    const file = await upload([line('a', ask('x')), 'not JSON', line('a', ask('y')), line('b', ask('z'), { url: '/v1/embeddings' })].join('\n'));
    const batch = await end(await create(file));
    assert.equal(batch.status, 'failed');
    assert.deepEqual(batch.errors.data.map(({ code, line }) => [code, line]), [['invalid_json_line', 2], ['duplicate_custom_id', 3], ['url_mismatch', 4]]);
    assert.equal((await end(await create(await upload('\n')))).errors.data[0].code, 'empty_file');
    const refused = (status, code, param) => (error) => {
      assert.deepEqual([error.status, error.code, error.param], [status, code, param]);
      return error instanceof OpenAI.APIError;
    };
    await assert.rejects(client.batches.create({ input_file_id: file.id, endpoint: '/v1/responses', completion_window: '24h' }), refused(400, 'invalid_value', 'endpoint'));
    await assert.rejects(create({ id: 'file-none' }), refused(400, 'file_not_found', 'input_file_id'));
    await assert.rejects(client.batches.retrieve('batch_none'), refused(404, 'batch_not_found', 'id'));
    await assert.rejects(client.files.retrieve('file-none'), refused(404, 'file_not_found', 'id'));
    await assert.rejects(client.files.create({ file: await toFile(Buffer.from('x'), 'a'), purpose: 'fine-tune' }), refused(400, 'invalid_value', 'purpose'));
    assert.equal((await client.files.delete(file.id)).deleted, true);
    await assert.rejects(client.files.content(file.id), refused(404, 'file_not_found', 'id'));
  },
};

await tries[what]();
