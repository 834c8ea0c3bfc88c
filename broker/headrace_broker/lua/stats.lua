#!lua flags=allow-oom
-- Tells what queues look like at this moment. Changes nothing.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV     the queues to look at
-- Reply    the store's time in ms; then for each queue 5 values: 1 where it is known, else 0; the fields of its hash;
--          those of its rates; number of dead letters; when the job became ready that has waited longest, in ms, 0 for none
local LOOK = 10 -- entries of a stream to look at for one whose job is still queued

local function oldest_ready(queue)
  local oldest = 0
  for _, priority in ipairs(PRIORITIES) do
    local key = ready_key(queue, priority)
    for _, entry in ipairs(checked[key] == 'there' and unread(key, '+', LOOK) or {}) do
      if redis.call('HGET', job_key(entry[2][2]), 'state') == 'QUEUED' then
        local since = tonumber(string.match(entry[1], '^%d+'))
        if oldest == 0 or since < oldest then oldest = since end
        break
      end
    end
  end
  return oldest
end

for i = 1, #ARGV do expect_queue(ARGV[i]) end
local reply = {NOW}
for i = 1, #ARGV do
  local queue, n = ARGV[i], #reply
  reply[n + 1] = redis.call('SISMEMBER', KEYS[1], queue)
  reply[n + 2] = redis.call('HGETALL', queue_key(queue))
  reply[n + 3] = redis.call('HGETALL', rates_key(queue))
  reply[n + 4] = redis.call('ZCARD', dead_key(queue))
  reply[n + 5] = oldest_ready(queue)
end
return reply
