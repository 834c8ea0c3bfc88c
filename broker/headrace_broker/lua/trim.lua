#!lua flags=allow-oom
-- Deletes dead letters that are older than the retention of the dead letter queue, records and all.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  retention in ms
-- ARGV[2]  limit: jobs at the most
-- ARGV     the queues to look at
-- Reply    number of dead letters deleted; the limit means that there may be more
local left = tonumber(ARGV[2])

for i = 3, #ARGV do expect(dead_key(ARGV[i]), 'zset') end
for i = 3, #ARGV do
  local key = dead_key(ARGV[i])
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', NOW - tonumber(ARGV[1]), 'LIMIT', 0, left)
  for _, id in ipairs(ids) do
    local job = load(id)
    if job and job.state == 'FAILED' then redis.call('UNLINK', job_key(id)) end
    redis.call('ZREM', key, id)
  end
  left = left - #ids
  if left <= 0 then break end
end
return tonumber(ARGV[2]) - left
