// Reads many streams at once with @grpc/grpc-js: node streams.js TARGET PROTO_FOLDER SERVICE_CONFIG STREAMS TOKENS
// Prints a line of JSON when the first token of a server comes, {"begun": MODEL}, and one for each call that has ended.
'use strict';
const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [target, protoFolder, serviceConfig, streams, tokens] = process.argv.slice(2);
const definition = loader.loadSync('ebbinghaus/v1/inference.proto', {
  includeDirs: [protoFolder], keepCase: true, defaults: true, oneofs: true, longs: Number,
});
const {InferenceService} = grpc.loadPackageDefinition(definition).ebbinghaus.v1;
const client = new InferenceService(target, grpc.credentials.createInsecure(),
                                    {'grpc.service_config': fs.readFileSync(serviceConfig, 'utf8')});
// Straight into the file, so that who waits for a line sees it at once.
const tell = (line) => fs.writeSync(1, JSON.stringify(line) + '\n');

// Until every server has answered: round_robin sends all calls to the first that is connected, as long as it is alone.
async function untilAllAreConnected() {
  const seen = new Set();
  while (seen.size < target.split(',').length) {
    await new Promise((resolve, reject) => {
      client.Complete({text: 'x', max_new_tokens: 1}, (error, answer) => {
        if (error) return reject(error);
        seen.add(answer.started.model);
        resolve();
      });
    });
  }
}

const begun = new Set();

function stream(i) {
  const answer = {code: grpc.status.OK, details: '', responded: false, model: '', tokens: 0, finished: false};
  const call = client.Generate({text: `client ${i}`, max_new_tokens: Number(tokens), ignore_eos: true});
  return new Promise((resolve) => {
    call.on('metadata', () => { answer.responded = true; });
    call.on('data', (event) => {
      answer.responded = true;
      if (event.started) answer.model = event.started.model;
      if (event.finished) answer.finished = true;
      if (!event.token) return;
      answer.tokens += 1;
      if (begun.has(answer.model)) return;
      begun.add(answer.model);
      tell({begun: answer.model});
    });
    call.on('error', ({code, details}) => Object.assign(answer, {code, details}));
    call.on('status', resolve);
  }).then(() => tell(answer));
}

untilAllAreConnected()
  .then(() => Promise.all(Array.from({length: Number(streams)}, (_, i) => stream(i))))
  .then(() => client.close());
