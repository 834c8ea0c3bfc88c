#!lua flags=allow-oom
-- Stops a queue from handing out jobs. Running ones finish, new ones are taken. One that is paused already stays paused
-- since then, for the new reason. Workers are told to look.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  queue
-- ARGV[2]  reason
-- Reply    when it was paused, in ms
local QUEUE = ARGV[1]
local key = queue_key(QUEUE)

expect_queue(QUEUE)
know(QUEUE)
redis.call('HSETNX', key, 'paused_at', NOW)
redis.call('HSET', key, 'pause_reason', ARGV[2])
redis.call('SPUBLISH', SHARD .. 'paused', 'pause ' .. QUEUE)
return tonumber(redis.call('HGET', key, 'paused_at'))
