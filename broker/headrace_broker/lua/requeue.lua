#!lua
-- Requeues dead letters: FAILED → QUEUED, at the end of the line of their priority. Attempts and crashes are counted
-- anew, and an expire_time that has passed counts no more.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV     for each job 2 values: id, the version in which it was seen to be a dead letter
-- Reply    for each job 1, or 0 where it is not there, or not that dead letter any more
local dead = {}
for i = 1, #ARGV, 2 do
  local job = load(ARGV[i])
  if job and job.state == 'FAILED' and job.version == tonumber(ARGV[i + 1]) then
    expect_queue(job.queue)
    dead[job.id] = job
  end
end

local reply = {}
for i = 1, #ARGV, 2 do
  local job = dead[ARGV[i]]
  reply[#reply + 1] = job and 1 or 0
  if job then
    dead[job.id] = nil
    redis.call('ZREM', dead_key(job.queue), job.id)
    local outdated = {'finished', 'token', 'progress', 'crashes'}
    if job.expires and job.expires <= NOW then
      job.expires = nil
      outdated[#outdated + 1] = 'expires'
    end
    redis.call('HDEL', job_key(job.id), unpack(outdated))
    job.attempt = 0
    push(job, job.priority)
    move(job, 'QUEUED', 'REQUEUED', '', {})
  end
end
flush_counters()
return reply
