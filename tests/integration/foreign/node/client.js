// Streams, cancels, lets deadlines pass and sends bad requests with @grpc/grpc-js: node client.js ADDRESS PROTO_FOLDER
// Prints a line per scenario; exit code 1 at the first that goes wrong. VOCABULARY is the tiny model's.
'use strict';
const assert = require('node:assert');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, protoFolder] = process.argv.slice(2);
const NAMED = 16, FAULTS = 1000, VOCABULARY = 300;
const definition = loader.loadSync('ebbinghaus/v1/inference.proto',
                                   {includeDirs: [protoFolder], keepCase: true, defaults: true, oneofs: true, longs: Number});
const {InferenceService} = grpc.loadPackageDefinition(definition).ebbinghaus.v1;
const client = new InferenceService(address, grpc.credentials.createInsecure());

const unary = (method, request, options = {}) => new Promise((resolve, reject) => {
  client[method](request, options, (error, answer) => error ? reject(error) : resolve(answer));
});

// All events; `onEvent` may cancel the call.
const stream = (request, options = {}, onEvent = () => {}) => new Promise((resolve, reject) => {
  const call = client.Generate(request, options), events = [];
  call.on('data', (event) => {
    events.push(event);
    onEvent(event, call);
  });
  call.on('end', () => resolve(events));
  call.on('error', reject);
});

const codeOf = (promise) => promise.then(() => grpc.status.OK, (error) => error.code);

async function untilIdle() {
  for (;;) {
    const now = await unary('GetServerStatus', {});
    if (now.requests_running + now.requests_queued + now.kv_used_bytes === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const longRequest = {text: 'go on', max_new_tokens: 6000, ignore_eos: true};
const beyond = Array.from({length: FAULTS}, (_, i) => VOCABULARY + i);

function checkFaults(error, end) {
  assert.strictEqual(error.code, grpc.status.INVALID_ARGUMENT);
  assert(Buffer.byteLength(error.details) <= 4096);
  assert(error.details.endsWith(end), error.details);
  assert(error.metadata.get('grpc-status-details-bin')[0].length > 0);
}

const scenarios = {
  async 'a stream has its events in order'() {
    const events = await stream({text: 'some words', max_new_tokens: 20, ignore_eos: true});
    assert.deepStrictEqual(events.map((event) => event.event), ['started', ...Array(20).fill('token'), 'finished']);
    const text = events.map((event) => event.token ? event.token.text : '').join('');
    const seed = events[0].started.seed;
    assert(text.length > 0 && seed >= 0);
  },
  async 'a unary call answers'() {
    const answer = await unary('Tokenize', {text: 'some words \u4e2d'});
    assert.strictEqual((await unary('Detokenize', {ids: answer.ids})).text, 'some words \u4e2d');
  },
  async 'cancelling frees the sequence'() {
    const code = await codeOf(stream(longRequest, {}, (event, call) => event.token && call.cancel()));
    assert.strictEqual(code, grpc.status.CANCELLED);
    await untilIdle();
  },
  async 'a deadline ends the call'() {
    const code = await codeOf(stream(longRequest, {deadline: Date.now() + 300}));
    assert.strictEqual(code, grpc.status.DEADLINE_EXCEEDED);
    await untilIdle();
  },
  async 'a thousand bad fields'() {
    const bias = Object.fromEntries(beyond.map((id) => [id, 1]));
    const pinned = beyond.map(() => ({begin: 0}));  // and no end
    const listed = `, nor are ${FAULTS - 1} more`;
    const requests = [
      [{text: 'x', generation_mode: 'GENERATION_MODE_SPARSE_ATTENTION', memory: {pinned}},
       `; and ${FAULTS - NAMED} more violations`],
      [{text: 'x', stop_token_ids: beyond}, listed],
      [{text: 'x', sampling: {logit_bias: bias}}, listed],
      [{token_ids: {ids: beyond}}, listed],
    ];
    for (const [request, end] of requests) {
      for (const send of [() => unary('Complete', request), () => stream(request)]) {
        checkFaults(await send().then(() => assert.fail('was accepted'), (error) => error), end);
      }
    }
  },
};

async function main() {
  for (const [name, scenario] of Object.entries(scenarios)) {
    try {
      await scenario();
    } catch (error) {
      console.log(`FAILED ${name}: ${error.stack}`);
      process.exit(1);
    }
    console.log(`ok ${name}`);
  }
  client.close();
}

main();
