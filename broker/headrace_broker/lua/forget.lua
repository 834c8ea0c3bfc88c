#!lua flags=allow-oom
-- Forgets workers that are gone: consumers that hold nothing and have not read for a while, and stale worker entries.
-- A consumer with pending entries stays: deleting it would make them unreachable for ever.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  idle time in ms after which a worker counts as gone
-- ARGV     the queues to look at
-- Reply    number of consumers forgotten
local IDLE = tonumber(ARGV[1])
local forgotten = 0

expect(SHARD .. 'workers', 'zset')
for i = 2, #ARGV do
  for _, priority in ipairs(PRIORITIES) do expect(ready_key(ARGV[i], priority), 'stream') end
end
for i = 2, #ARGV do
  for _, priority in ipairs(PRIORITIES) do
    local key = ready_key(ARGV[i], priority)
    if checked[key] == 'there' then
      ensure_group(key)
      for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', key, 'workers')) do
        local c = facts(consumer)
        if c.pending == 0 and c.idle > IDLE then
          redis.call('XGROUP', 'DELCONSUMER', key, 'workers', c.name)
          forgotten = forgotten + 1
        end
      end
    end
  end
end
redis.call('ZREMRANGEBYSCORE', SHARD .. 'workers', '-inf', NOW - IDLE)
return forgotten
