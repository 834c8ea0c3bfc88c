#!lua flags=allow-oom
-- Writes how attempts ended: PROCESSING → SUCCEEDED, RETRYING, FAILED, QUEUED (given back), SCHEDULED (snoozed), CANCELLED (discarded).
-- Each outcome counts only under the token of the current claim. One that is written already is reported as written.
-- A job that was asked to be cancelled while it ran is not run again: any end but succeeded and discarded is CANCELLED.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV     for each outcome 7 values: id, token, kind, reason, detail, and two that depend on the kind:
--          succeeded: content type ('' where there is no result), result; retried: delay in ms, failure (JSON)
--          failed: '', failure (JSON); snoozed: delay in ms, ''; released and discarded: '', ''
-- Reply    for each outcome 'WRITTEN' or 'STALE'
local WIDTH = 7

local function succeeded(job, reason, detail, content_type, result)
  local fields = content_type ~= '' and {'result', result, 'result_type', content_type} or {}
  finish(job, 'SUCCEEDED', reason, detail, fields)
end

local function retried(job, reason, detail, delay, failure)
  local due = NOW + tonumber(delay)
  move(job, 'RETRYING', reason, detail, {'due', due, 'error', failure, 'errored', NOW})
  schedule(job, due)
end

local function failed(job, reason, detail, _, failure)
  finish(job, 'FAILED', reason, detail, {'error', failure, 'errored', NOW})
end

local function released(job, reason, detail)
  job.attempt = job.attempt - 1
  push(job, FRONT)
  move(job, 'QUEUED', reason, detail, {})
end

local function snoozed(job, reason, detail, delay)
  job.attempt = job.attempt - 1
  local due = NOW + tonumber(delay)
  move(job, 'SCHEDULED', reason, detail, {'due', due})
  schedule(job, due)
end

local function discarded(job, reason, detail)
  finish(job, 'CANCELLED', reason, detail, {})
end

local WRITE = {
  succeeded = succeeded, retried = retried, failed = failed,
  released = released, snoozed = snoozed, discarded = discarded,
}

local function cancelled(job, _, _, _, failure)
  cancel_running(job, failure ~= '' and {'error', failure, 'errored', NOW} or {})
end
local FINAL = {succeeded = true, discarded = true}

local jobs = {}
for i = 1, #ARGV, WIDTH do
  local job = load(ARGV[i])
  if job then expect_queue(job.queue) end
  jobs[ARGV[i]] = job
end

local reply = {}
for i = 1, #ARGV, WIDTH do
  local id, token, kind, reason, detail, word, data = unpack(ARGV, i, i + WIDTH - 1)
  local job = jobs[id]
  if not job or job.token ~= token then
    reply[#reply + 1] = 'STALE'
  else
    if job.state == 'PROCESSING' then
      local key, entry = claimed_at(job)
      local write = (job.cancel and not FINAL[kind]) and cancelled or WRITE[kind]
      write(job, reason, detail, word, data)
      drop(key, entry)
    end
    reply[#reply + 1] = 'WRITTEN'
  end
end
flush_counters()
ring_promoters()
return reply
