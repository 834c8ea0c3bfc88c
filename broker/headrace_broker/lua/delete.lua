#!lua flags=allow-oom
-- Deletes jobs that do not run, with all that is known of them. A stream entry that a queued one leaves behind is
-- cleared away by the next claim. Whoever watches such a job is told to look, and finds nothing.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV     for each job 2 values: id, the version that it must be in ('' for any)
-- Reply    for each job 'DELETED'; 'MISSING' where it is not there; 'CHANGED' where it is in another version; 'RUNNING'
local jobs = {}
for i = 1, #ARGV, 2 do
  local job = load(ARGV[i])
  if job then expect_queue(job.queue) end
  jobs[ARGV[i]] = job
end

local function delete(job)
  redis.call('UNLINK', job_key(job.id))
  redis.call('ZREM', expiring_key(job.queue), job.id)
  redis.call('ZREM', due_key(job.queue), job.id)
  redis.call('ZREM', dead_key(job.queue), job.id)
  if WAITING[job.state] then count(job.queue, job.state, -1) end
  publish(job, 'DELETED', '', '')
end

local reply = {}
for i = 1, #ARGV, 2 do
  local job, version = jobs[ARGV[i]], ARGV[i + 1]
  local word = 'DELETED'
  if not job then
    word = 'MISSING'
  elseif version ~= '' and job.version ~= tonumber(version) then
    word = 'CHANGED'
  elseif job.state == 'PROCESSING' then
    word = 'RUNNING'
  else
    delete(job)
    jobs[job.id] = nil
  end
  reply[#reply + 1] = word
end
flush_counters()
return reply
