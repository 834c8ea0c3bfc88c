#!lua
-- Stores new jobs: SCHEDULED with a due time ahead, else QUEUED. A job that is there already is left as it is.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV     for each job 9 values: id, queue, priority, delay in ms ('' where the due time is absolute),
--          absolute due time in ms ('' where there is a delay), spec (JSON), payload, digest ('' where the id is random),
--          and 'expires retention' in ms (expires is 0 where there is none)
-- Reply    for each job 4 values: 'new', 'old' or 'reused' (another job has this id); state; version; time created in ms
local WIDTH = 9

local stored = {}
for i = 1, #ARGV, WIDTH do
  local id = ARGV[i]
  stored[id] = redis.call('HMGET', job_key(id), 'state', 'version', 'created', 'digest')
  expect_queue(ARGV[i + 1])
end

local reply = {}
for i = 1, #ARGV, WIDTH do
  local id, queue, priority, delay, at, spec, payload, digest, limits = unpack(ARGV, i, i + WIDTH - 1)
  local seen, word = stored[id], 'old'
  if not seen[1] then
    word = 'new'
    know(queue)
    local due = delay ~= '' and NOW + tonumber(delay) or tonumber(at)
    local state = due > NOW and 'SCHEDULED' or 'QUEUED'
    local expires, retention = string.match(limits, '(%d+) (%d+)')
    local job = {id = id, queue = queue, priority = priority, version = 1, attempt = 0, created = NOW, state = state}
    local fields = {
      'state', state, 'version', 1, 'queue', queue, 'created', NOW, 'spec', spec, 'payload', payload,
      'retention', retention, 'history', history_line(job, state, '', ''),
    }
    local function also(name, value)
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
    if priority ~= 'normal' then also('priority', priority) end
    if digest ~= '' then also('digest', digest) end
    if expires ~= '0' then also('expires', expires) end
    if state == 'SCHEDULED' then
      schedule(job, due)
      also('due', due)
    else
      push(job, priority)
      also('entry', job.entry)
    end
    redis.call('HSET', job_key(id), unpack(fields))
    if expires ~= '0' then redis.call('ZADD', expiring_key(queue), expires, id) end
    count(queue, state, 1)
    tally(queue, 'e')
    publish(job, state, '', '')
    seen = {state, 1, NOW, digest}
    stored[id] = seen
  elseif (seen[4] or '') ~= digest then
    word = 'reused'
  end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = word, seen[1], tonumber(seen[2]), tonumber(seen[3])
end
flush_counters()
ring_promoters()
return reply
