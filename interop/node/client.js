// The Node client against a cluster, as Load and Drain of ../java do it: the same command lines, the same lines of output.
//
//   client.js load  --ns HOST:PORT --out FILE [--stop FILE] KIND=COUNT...
//   client.js drain --ns HOST:PORT --out FILE MODE/GROUP/TOPIC/TAGS/INSTANCES/QUEUES/EXPECT...
//
// Kinds: sync, tags (a fifth each of TagA to TagE), retry (a third fails once). Modes: concurrent (one instance), broadcast.
'use strict';
const fs = require('fs');
const zlib = require('zlib');
const { Consumer, Producer, Message } = require('ali-ons');

const silent = { info() {}, warn() {}, debug() {}, error(...text) { console.log(...text); } };
const sleep = ms => new Promise(done => setTimeout(done, ms));
const crc = zlib.crc32 || (body => {
  let value = ~0;
  for (const byte of body) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xEDB88320 : 0);
  }
  return ~value >>> 0;
});

const options = {}, rest = [], [mode, ...args] = process.argv.slice(2);
for (let i = 0; i < args.length; i++) {
  if (args[i].startsWith('--')) options[args[i].slice(2)] = args[++i];
  else rest.push(args[i]);
}
const out = fs.openSync(options.out, 'w');
const write = line => fs.writeSync(out, JSON.stringify(line) + '\n');
const common = { nameSrv: options.ns, httpclient: {}, logger: silent };

async function load() {
  const producer = new Producer({ ...common, producerGroup: 'It-node-load', retryTimesWhenSendFailed: 0 });
  producer.on('error', () => {});
  await producer.ready();
  const more = (made, count) => (options.stop ? !fs.existsSync(options.stop) : made < count);
  await Promise.all(rest.map(async text => {
    const [kind, count] = text.split('=');
    for (let i = 0; more(i, Number(count)); i++) await send(producer, kind, i);
  }));
  if (!options.stop) await producer.close();
}

async function send(producer, kind, i) {
  const key = `${kind}-${i}`, body = Buffer.from(`${kind} ${i} `.repeat(1 + i % 90));
  const message = new Message(`It-${kind}`, kind === 'tags' ? `Tag${'ABCDE'[i % 5]}` : null, body);
  message.keys = [ key ];
  if (kind === 'retry') message.properties.fail = String(Math.floor(i % 3 / 2));
  const line = { kind, topic: message.topic, key, tag: message.tags, size: body.length, crc: crc(body), queue: -1, offset: -1 };
  try {
    const sent = await producer.send(message);
    write({ ...line, status: sent.sendStatus, msgId: sent.msgId, queue: Number(sent.messageQueue.queueId), offset: Number(sent.queueOffset) });
  } catch (error) {
    write({ ...line, status: String(error.message) });
    await sleep(20);
  }
}

async function drain() {
  const consumers = [];
  let missing = 0, last = Date.now();
  for (const spec of rest) {
    const [how, group, topic, tags, instances, , expect] = spec.split('/');
    missing += Number(expect);
    if (instances !== '1') throw new Error('one process is one instance of this client');
    const consumer = new Consumer({ ...common, consumerGroup: group, isBroadcast: how === 'broadcast', consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET' });
    consumer.on('error', () => {});
    consumer.subscribe(topic, tags, async m => {
      const taken = m.reconsumeTimes >= Number(m.properties.fail || 0);
      write({ group, instance: '0', topic, key: m.keys, tag: m.tags, size: m.body.length, crc: crc(m.body), queue: m.queueId,
        offset: Number(m.queueOffset), times: m.reconsumeTimes, taken });
      last = Date.now();
      if (!taken) return Consumer.ACTION_RETRY;
      missing--;
    });
    await consumer.ready();
    consumers.push(consumer);
  }
  console.log('ready');
  const end = Date.now() + Number(options.seconds) * 1000;
  while (Date.now() < end && (missing > 0 || Date.now() - last < 1000)) await sleep(50);
  for (const consumer of consumers) await consumer.close();
  process.exitCode = missing > 0 ? 3 : 0;
}

// The client throws such errors beside its promises too, when a broker is gone.
process.on('unhandledRejection', () => {});
process.on('uncaughtException', error => {
  if (!options.stop) throw error;
});
(mode === 'load' ? load() : drain()).then(() => process.exit(), error => {
  console.log(error);
  process.exit(1);
});
