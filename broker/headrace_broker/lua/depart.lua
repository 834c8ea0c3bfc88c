#!lua flags=allow-oom
-- Takes leave of a worker that has drained: entries that were delivered to it and never claimed go back to the front.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  worker, the consumer's name
-- ARGV     its queues
-- Reply    number of deliveries returned
local WORKER = ARGV[1]
local LIMIT = 500
local returned = 0

expect(SHARD .. 'workers', 'zset')
for i = 2, #ARGV do expect_queue(ARGV[i]) end
for i = 2, #ARGV do
  for _, priority in ipairs(PRIORITIES) do
    local key = ready_key(ARGV[i], priority)
    if checked[key] == 'there' then
      ensure_group(key)
      local held = 0
      for _, pending in ipairs(redis.call('XPENDING', key, 'workers', '-', '+', LIMIT, WORKER)) do
        local found = redis.call('XRANGE', key, pending[1], pending[1])[1]
        local job = found and load(found[2][2])
        if job and job.state == 'PROCESSING' then
          held = held + 1
        else
          if job and job.state == 'QUEUED' and job.entry == priority .. ' ' .. pending[1] then
            put_back(job, FRONT)
            returned = returned + 1
          end
          drop(key, pending[1])
        end
      end
      if held == 0 and #redis.call('XPENDING', key, 'workers', '-', '+', 1, WORKER) == 0 then
        redis.call('XGROUP', 'DELCONSUMER', key, 'workers', WORKER)
      end
    end
  end
end
redis.call('ZREM', SHARD .. 'workers', WORKER)
redis.call('DEL', SHARD .. 'worker:' .. WORKER)
return returned
