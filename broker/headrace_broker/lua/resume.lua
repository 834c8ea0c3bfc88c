#!lua flags=allow-oom
-- Lets a paused queue hand out jobs again. Workers are told to look.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  queue
-- Reply    1, or 0 where it was not paused
local QUEUE = ARGV[1]

expect_queue(QUEUE)
local was_paused = redis.call('HDEL', queue_key(QUEUE), 'paused_at', 'pause_reason') > 0
redis.call('SPUBLISH', SHARD .. 'paused', 'resume ' .. QUEUE)
return was_paused and 1 or 0
