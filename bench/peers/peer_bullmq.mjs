// BullMQ on Node: `node peer_bullmq.mjs work`, or one of the roles of script.py. Finished jobs are kept, as its status.
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.env.BENCH_NODE_MODULES + "/");
const { Queue, Worker } = require("bullmq");

const url = new URL(process.env.BENCH_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const now = () => Number(process.hrtime.bigint()) / 1e9;  // CLOCK_MONOTONIC, as the others

function work() {
  const ran = [];
  const file = `${process.env.BENCH_TALLY}/${process.pid}.tally`;
  setInterval(() => {
    if (!ran.length) return;
    const records = Buffer.alloc(ran.length * 12);
    ran.splice(0).forEach(([number, at], i) => {
      records.writeUInt32LE(number + 1, i * 12);
      records.writeDoubleLE(at, i * 12 + 4);
    });
    appendFileSync(file, records);
  }, 20);
  const worker = new Worker("noop", async (job) => { ran.push([job.data.n, now()]); }, { connection, concurrency: 200 });
  worker.waitUntilReady().then(() => console.log("peer ready"));
}

async function enqueue(count, at) {
  const queue = new Queue("noop", { connection });
  const begun = now();
  const delay = () => (at ? { delay: Math.max(0, at * 1000 - Date.now()) } : {});
  for (let from = 0; from < count; from += 500) {
    const size = Math.min(500, count - from);
    await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: "noop", data: { n: from + i }, opts: delay() })));
  }
  console.log(JSON.stringify({ begun, ended: now() }));
  await queue.close();
}

async function ping(count) {
  const queue = new Queue("noop", { connection });
  const called = [];
  for (let n = 0; n < count; n++) {
    await new Promise((resolve) => setTimeout(resolve, 7.5 + 15 * Math.random()));
    called.push(now());
    await queue.add("noop", { n });
  }
  console.log(JSON.stringify({ called }));
  await queue.close();
}

const [role, count, at] = process.argv.slice(2);
if (role === "work") work();
else if (role === "ping") await ping(Number(count));
else await enqueue(Number(count), Number(at));
