#!lua flags=allow-oom
-- Moves due jobs to their streams: SCHEDULED or RETRYING → QUEUED; one whose expire_time has passed ends instead.
-- Allowed when memory is out: a due job that could not move would never end, and so never give its memory back.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  limit: jobs at the most
-- ARGV     the queues to look at
-- Reply    4 values: jobs taken off the schedule; 1 where more are due; next due time in ms (0 where nothing waits);
--          the store's time in ms
local limit = tonumber(ARGV[1])
local taken, more, next_due = 0, 0, 0

for i = 2, #ARGV do expect_queue(ARGV[i]) end
for i = 2, #ARGV do
  local queue = ARGV[i]
  local ids = redis.call('ZRANGEBYSCORE', due_key(queue), '-inf', NOW, 'LIMIT', 0, limit - taken)
  for _, id in ipairs(ids) do
    local job = load(id)
    if job and (job.state == 'SCHEDULED' or job.state == 'RETRYING') then
      if job.expires and job.expires <= NOW then
        lapse(job)
      else
        push(job, job.priority)
        move(job, 'QUEUED', '', '', {})
      end
    end
    redis.call('ZREM', due_key(queue), id)
  end
  taken = taken + #ids
  -- Looked at in every queue, even when the limit is used up: the caller sleeps until what it is told here.
  local first = redis.call('ZRANGE', due_key(queue), 0, 0, 'WITHSCORES')
  if first[2] then
    local at = tonumber(first[2])
    if at <= NOW then more = 1 end
    if next_due == 0 or at < next_due then next_due = at end
  end
end
flush_counters()
return {taken, more, next_due, NOW}
