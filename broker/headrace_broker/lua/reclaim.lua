#!lua flags=allow-oom
-- Takes jobs from workers whose lease ran out: PROCESSING → QUEUED at the front, or FAILED after too many crashes, or
-- CANCELLED where that was asked for.
-- From its second crash on a job waits for a random time first (SCHEDULED): jobs that crash together would be claimed
-- together again, and the one among them that kills its workers would take all the others to the dead letters with it.
-- Entries that were delivered and never claimed go back to the front as well.
-- An outage of the store must not look like a hundred dead workers: nobody could renew while it lasted, and nobody
-- could call this either. So a gap of over a third of a lease between two calls holds all reclaiming for one lease.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  lease in ms
-- ARGV[2]  limit: entries at the most
-- ARGV[3]  crashes that a job survives
-- ARGV[4]  failure to record for a job that had more (JSON)
-- ARGV     the queues to look at
-- Reply    4 values: jobs that wait again; jobs dead-lettered; deliveries returned; ms that reclaiming is still held, or 0
local LEASE, MAX_CRASHES = tonumber(ARGV[1]), tonumber(ARGV[3])
local left = tonumber(ARGV[2])
local pulse = SHARD .. 'pulse'

for i = 5, #ARGV do expect_queue(ARGV[i]) end
local seen, hold = unpack(redis.call('HMGET', pulse, 'seen', 'hold'))
hold = tonumber(hold or 0)
if seen and NOW - tonumber(seen) > LEASE / 3 then hold = NOW + LEASE end
redis.call('HSET', pulse, 'seen', NOW, 'hold', hold)
if hold > NOW then return {0, 0, 0, hold - NOW} end

local requeued, dead, returned = 0, 0, 0

-- How long a job is to wait in ms: evenly spread over a lease for each crash after the first.
local function apart(job)
  local share = tonumber(string.sub(redis.sha1hex(job.id .. NOW), 1, 6), 16) / 0x1000000
  return math.floor(LEASE * (job.crashes - 1) * share)
end

local function crash(job)
  redis.call('HDEL', job_key(job.id), 'token')
  if job.cancel then return cancel_running(job, {}) end
  job.crashes = job.crashes + 1
  job.attempt = job.attempt - 1
  if job.crashes > MAX_CRASHES then
    dead = dead + 1
    finish(job, 'FAILED', 'CRASH_LOOP', job.worker, {'crashes', job.crashes, 'error', ARGV[4], 'errored', NOW})
    return
  end
  requeued = requeued + 1
  if job.crashes > 1 then
    local due = NOW + apart(job)
    move(job, 'SCHEDULED', 'LEASE_LOST', job.worker, {'crashes', job.crashes, 'due', due})
    schedule(job, due)
  else
    push(job, FRONT)
    move(job, 'QUEUED', 'LEASE_LOST', job.worker, {'crashes', job.crashes})
  end
end

local function look(key, priority, pending)
  local entry, idle = pending[1], pending[3]
  local found = redis.call('XRANGE', key, entry, entry)[1]
  local job = found and load(found[2][2])
  local here = job and job.entry == priority .. ' ' .. entry
  if here and job.state == 'PROCESSING' then
    if idle < (job.lease or LEASE) then return end
    crash(job)
  elseif here and job.state == 'QUEUED' then
    returned = returned + 1
    put_back(job, FRONT)
  end
  drop(key, entry)
end

for i = 5, #ARGV do
  for _, priority in ipairs(PRIORITIES) do
    local key = ready_key(ARGV[i], priority)
    if left > 0 and checked[key] == 'there' then
      ensure_group(key)
      local pending = redis.call('XPENDING', key, 'workers', 'IDLE', LEASE, '-', '+', left)
      left = left - #pending
      for _, entry in ipairs(pending) do look(key, priority, entry) end
    end
  end
end
flush_counters()
ring_promoters()
return {requeued, dead, returned, 0}
