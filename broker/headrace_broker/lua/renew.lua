#!lua flags=allow-oom
-- Renews the leases of running jobs, and says that their worker is alive.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  worker, the consumer's name
-- ARGV[2]  what the worker says of itself (JSON), '' to leave its entry alone
-- ARGV[3]  how long that entry is kept, in ms
-- ARGV     for each job 2 values: id, token
-- Reply    for each job 1, or 0 where the lease belongs to someone else by now or the job has ended, or 2 where it is
--          renewed and the job is to be cancelled
local WORKER = ARGV[1]

local held = {}
for i = 4, #ARGV, 2 do
  local job = load(ARGV[i])
  if job and job.state == 'PROCESSING' and job.token == ARGV[i + 1] then
    local key = claimed_at(job)
    expect(key, 'stream')
    held[i] = job
  end
end
if ARGV[2] ~= '' then
  expect(SHARD .. 'workers', 'zset')
  expect(SHARD .. 'worker:' .. WORKER, 'hash')
end

local reply = {}
for i = 4, #ARGV, 2 do
  if held[i] then
    local key, entry = claimed_at(held[i])
    ensure_group(key)
    redis.call('XCLAIM', key, 'workers', WORKER, 0, entry, 'JUSTID')
    reply[#reply + 1] = held[i].cancel and 2 or 1
  else
    reply[#reply + 1] = 0
  end
end
if ARGV[2] ~= '' then
  redis.call('ZADD', SHARD .. 'workers', NOW, WORKER)
  redis.call('HSET', SHARD .. 'worker:' .. WORKER, 'info', ARGV[2], 'seen', NOW)
  redis.call('PEXPIRE', SHARD .. 'worker:' .. WORKER, ARGV[3])
end
return reply
