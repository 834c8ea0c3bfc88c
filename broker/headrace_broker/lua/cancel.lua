#!lua flags=allow-oom
-- Cancels a job. One that waits: SCHEDULED, QUEUED or RETRYING → CANCELLED; a stream entry that it leaves behind is
-- cleared away by the next claim. Of one that runs the request is noted, and its worker told: whatever writes its end
-- makes it CANCELLED, unless it succeeded. A job that has ended is left as it is.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  job id
-- ARGV[2]  who asks, and why; that of the first request counts
-- ARGV     names of the fields of the record to return
-- Reply    the values of these fields afterwards; all nil where there is no such job
local job = load(ARGV[1])
if job then
  expect_queue(job.queue)
  if WAITING[job.state] then
    redis.call('ZREM', due_key(job.queue), job.id)
    finish(job, 'CANCELLED', 'REQUESTED', ARGV[2], {})
    flush_counters()
  elseif job.state == 'PROCESSING' then
    if not job.cancel then
      redis.call('HSET', job_key(job.id), 'cancel', string.format('%.0f', NOW) .. '|' .. ARGV[2])
    end
    redis.call('SPUBLISH', SHARD .. 'orders:' .. job.worker, 'cancel ' .. job.id)
  end
end
return redis.call('HMGET', job_key(ARGV[1]), unpack(ARGV, 3))
