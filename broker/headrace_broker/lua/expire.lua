#!lua flags=allow-oom
-- Ends waiting jobs whose expire_time has passed: EXPIRED where the job never started, else FAILED.
-- A running job is left alone; should it come back to wait, it is put on the list again.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  limit: jobs at the most
-- ARGV     the queues to look at
-- Reply    number of jobs looked at; the limit means that there may be more
local left = tonumber(ARGV[1])

for i = 2, #ARGV do expect_queue(ARGV[i]) end
for i = 2, #ARGV do
  local queue = ARGV[i]
  local ids = redis.call('ZRANGEBYSCORE', expiring_key(queue), '-inf', NOW, 'LIMIT', 0, left)
  for _, id in ipairs(ids) do
    local job = load(id)
    if job and (job.state == 'SCHEDULED' or job.state == 'QUEUED' or job.state == 'RETRYING') then lapse(job) end
    redis.call('ZREM', expiring_key(queue), id)
  end
  left = left - #ids
  if left <= 0 then break end
end
flush_counters()
return tonumber(ARGV[1]) - left
