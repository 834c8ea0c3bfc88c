#!lua flags=allow-oom
-- Records how far a running handler has come, and tells its watchers. No transition: the version stays.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  job id
-- ARGV[2]  token
-- ARGV[3]  share of the work done, 0 to 1
-- ARGV[4]  what the handler says
-- Reply    1, or 0 where the lease belongs to someone else by now or the job has ended
local job = load(ARGV[1])
if not job or job.state ~= 'PROCESSING' or job.token ~= ARGV[2] then return 0 end
redis.call('HSET', job_key(job.id), 'progress', string.format('%.0f', NOW) .. '|' .. ARGV[3] .. '|' .. ARGV[4])
publish(job, 'PROGRESS', ARGV[3], ARGV[4])
return 1
