-- Shared by all scripts: where a shard's keys are, what time it is, how a job moves from state to state.
-- The loader puts this file after the header of each script. It reads only KEYS[1]; the key names are those of keys.py.

local SHARD = string.sub(KEYS[1], 1, -7) -- KEYS[1] is '{namespace:shard}:queues'
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A slot that is being moved key by key is served by neither primary as a whole. There, and only there, looking for a key
-- that never exists is an error, and it ends the script here, before it could take what has gone ahead for what never was.
redis.call('EXISTS', SHARD .. 'moving')

local PRIORITIES = {'high', 'normal', 'low'}
local LEVEL = {high = true, normal = true, low = true}
local FRONT = 'high' -- where a job goes that had already been at the front: given back, or taken from a dead worker
local LETTER = {
  SCHEDULED = 's', QUEUED = 'q', PROCESSING = 'p', RETRYING = 'r',
  SUCCEEDED = '+', FAILED = '-', CANCELLED = 'c', EXPIRED = 'x',
}
local WAITING = {SCHEDULED = true, QUEUED = true, RETRYING = true}
local HISTORY = 500 -- transitions that a record remembers

local function job_key(id) return SHARD .. 'job:' .. id end
local function ready_key(queue, priority) return SHARD .. 'ready:' .. queue .. ':' .. priority end
local function due_key(queue) return SHARD .. 'due:' .. queue end
local function expiring_key(queue) return SHARD .. 'expiring:' .. queue end
local function dead_key(queue) return SHARD .. 'dead:' .. queue end
local function queue_key(queue) return SHARD .. 'queue:' .. queue end
local function rates_key(queue) return SHARD .. 'rates:' .. queue end

-- Laws 1 and 5: a key of the wrong type must stop a script before its first write, and every stream has its group
-- from the start. Both are looked at once a script and key.
local checked = {}
local function misfit(key, kind)
  if checked[key] then return nil end
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then return key .. ' is a ' .. found .. ', not a ' .. kind end
  checked[key] = kind == 'stream' and found == 'none' and 'new' or 'there'
end
local function expect(key, kind)
  local wrong = misfit(key, kind)
  if wrong then error(redis.error_reply('WRONGTYPE ' .. wrong)) end
end
-- What is wrong with the keys of a queue: the first of them that has a wrong type, nil where none has.
local function misfit_of(queue)
  if checked[queue] then return nil end
  for _, priority in ipairs(PRIORITIES) do
    local wrong = misfit(ready_key(queue, priority), 'stream')
    if wrong then return wrong end
  end
  for _, key in ipairs({due_key(queue), expiring_key(queue), dead_key(queue)}) do
    local wrong = misfit(key, 'zset')
    if wrong then return wrong end
  end
  local wrong = misfit(queue_key(queue), 'hash') or misfit(rates_key(queue), 'hash')
  checked[queue] = not wrong
  return wrong
end
local function expect_queue(queue)
  local wrong = misfit_of(queue)
  if wrong then error(redis.error_reply('WRONGTYPE ' .. wrong)) end
end

-- Makes the stream's group at 0, so that entries older than the group are delivered too. True where there was none.
local function ensure_group(key)
  if checked[key] ~= 'grouped' then
    local made = redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
    local failed = type(made) == 'table' and made.err
    if failed and not string.find(tostring(made.err), 'BUSYGROUP', 1, true) then error(made) end
    checked[key] = 'grouped'
    return not failed
  end
end

-- Puts a queue on the list of those that there are; its streams have their groups from then on.
local known = {}
local function know(queue)
  if known[queue] then return end
  known[queue] = true
  if redis.call('SADD', KEYS[1], queue) == 1 then
    for _, priority in ipairs(PRIORITIES) do ensure_group(ready_key(queue, priority)) end
  end
end

local FIELDS = {
  'state', 'version', 'queue', 'priority', 'attempt', 'created', 'history', 'token', 'entry', 'crashes',
  'expires', 'retention', 'started', 'lease', 'due', 'worker', 'cancel',
}
-- Reads what the transitions need of a record; nil where there is none, or where its key is no hash: one broken record
-- must not keep all others from moving.
local function load(id)
  local f = redis.pcall('HMGET', job_key(id), unpack(FIELDS))
  if f.err or not f[1] then return nil end
  return {
    id = id, state = f[1], version = tonumber(f[2]), queue = f[3], priority = f[4] or 'normal',
    attempt = tonumber(f[5] or 0), created = tonumber(f[6]), history = f[7], token = f[8], entry = f[9],
    crashes = tonumber(f[10] or 0), expires = tonumber(f[11] or nil), retention = tonumber(f[12]),
    started = f[13], lease = tonumber(f[14] or nil), due = f[15], worker = f[16], cancel = f[17],
  }
end

local function one_line(text) return (string.gsub(text, '[\r\n]', ' ')) end

-- One step as the history keeps it: letter, ms since the job was stored, attempt, reason, detail; empty ends are cut.
local function history_line(job, state, reason, detail)
  local line = LETTER[state] .. string.format('%.0f', NOW - job.created)
  if detail ~= '' then return line .. ',' .. job.attempt .. ',' .. reason .. ',' .. one_line(detail) end
  if reason ~= '' then return line .. ',' .. job.attempt .. ',' .. reason end
  if job.attempt > 0 then return line .. ',' .. job.attempt end
  return line
end

local function publish(job, state, reason, detail)
  redis.call('SPUBLISH', SHARD .. 'event:' .. job.id, table.concat({
    job.id, string.format('%.0f', job.version), state, string.format('%.0f', NOW), job.attempt, reason, one_line(detail),
  }, '|'))
end

-- Counters are gathered and written once at the end of a script. Waiting and running states count the jobs that are
-- there now; terminal states count the jobs that ever ended so.
local counters = {}
local function count(queue, state, by)
  counters[queue] = counters[queue] or {}
  counters[queue][state] = (counters[queue][state] or 0) + by
end
-- Rates: for each spell of 10 s how many jobs came, ended, and ended as FAILED. Fields of `rates:<queue>` named
-- 'letter spell'; the key lives for 8 spells after its latest field, so these are all that can be left of old ones.
local SPELL, SPELLS = 10000, 7
local spell = math.floor(NOW / SPELL)
local tallies = {}
local function tally(queue, letter)
  tallies[queue] = tallies[queue] or {}
  tallies[queue][letter] = (tallies[queue][letter] or 0) + 1
end
local function flush_tally(queue, letter, by)
  local key = rates_key(queue)
  if redis.call('HINCRBY', key, letter .. spell, by) > by then return end
  local old = {}
  for n = spell - 2 * SPELLS - 1, spell - SPELLS do
    for _, each in ipairs({'e', 'f', 'd'}) do old[#old + 1] = each .. n end
  end
  redis.call('HDEL', key, unpack(old))
  redis.call('PEXPIRE', key, (SPELLS + 1) * SPELL)
end
local function flush_counters()
  for queue, states in pairs(counters) do
    for state, by in pairs(states) do
      if by ~= 0 then redis.call('HINCRBY', queue_key(queue), state, by) end
    end
  end
  for queue, letters in pairs(tallies) do
    for letter, by in pairs(letters) do flush_tally(queue, letter, by) end
  end
end

-- The one place where a job changes its state. `fields` are further fields of the record to write in the same call.
-- A job that becomes QUEUED is pushed first, so that its record knows where.
local function move(job, state, reason, detail, fields)
  count(job.queue, job.state, -1)
  count(job.queue, state, 1)
  job.state = state
  job.version = job.version + 1
  job.history = job.history .. '\n' .. history_line(job, state, reason, detail)
  if job.version > HISTORY then job.history = string.sub(job.history, string.find(job.history, '\n', 1, true) + 1) end
  local n = #fields
  fields[n + 1], fields[n + 2] = 'state', state
  fields[n + 3], fields[n + 4] = 'version', job.version
  fields[n + 5], fields[n + 6] = 'attempt', job.attempt
  fields[n + 7], fields[n + 8] = 'history', job.history
  if state == 'QUEUED' then fields[n + 9], fields[n + 10] = 'entry', job.entry end
  redis.call('HSET', job_key(job.id), unpack(fields))
  if job.expires and WAITING[state] then -- `expire` may have met it running, and passed over it
    redis.call('ZADD', expiring_key(job.queue), job.expires, job.id)
  end
  publish(job, state, reason, detail)
end

-- Puts a job into its stream, and says so to whoever reads it. `entry` is where: a queued or running job's record
-- always says where its entry is, so that `repair` can tell whether it is there.
local function push(job, priority)
  local key = ready_key(job.queue, priority)
  if checked[key] ~= 'there' then ensure_group(key) end
  job.entry = priority .. ' ' .. redis.call('XADD', key, '*', 'j', job.id)
end
-- Gives a job a new entry, without a transition: it stays what it is. One that was delivered and not claimed goes to
-- the front.
local function put_back(job, priority)
  push(job, priority)
  redis.call('HSET', job_key(job.id), 'entry', job.entry)
end

-- Takes an entry out of its stream: acknowledged and deleted, never one without the other (law 5).
local function drop(key, entry)
  redis.call('XACK', key, 'workers', entry)
  redis.call('XDEL', key, entry)
end

-- A reply of XINFO that is a list of names and values, as a table.
local function facts(pairs_list)
  local t = {}
  for i = 1, #pairs_list, 2 do t[pairs_list[i]] = pairs_list[i + 1] end
  return t
end
-- The first entries of a stream that nobody has read, up to the entry id `to`.
local function unread(key, to, limit)
  local from = '-'
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local g = facts(group)
    if g.name == 'workers' then from = '(' .. g['last-delivered-id'] end
  end
  return redis.call('XRANGE', key, from, to, 'COUNT', limit)
end

-- Where the entry of a queued or running job is, kept as 'priority entry-id': its stream, its id.
local function claimed_at(job)
  local space = string.find(job.entry, ' ', 1, true)
  return ready_key(job.queue, string.sub(job.entry, 1, space - 1)), string.sub(job.entry, space + 1)
end

-- Puts a job on the schedule; at the end, `ring_promoters` wakes the sleepers if it is the next one of its queue.
local scheduled = {}
local function schedule(job, at)
  redis.call('ZADD', due_key(job.queue), at, job.id)
  scheduled[job.queue] = math.min(scheduled[job.queue] or at, at)
end
local function ring_promoters()
  for queue, at in pairs(scheduled) do
    local first = redis.call('ZRANGE', due_key(queue), 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) >= at then
      redis.call('SPUBLISH', SHARD .. 'wake', string.format('%.0f', at))
    end
  end
end

-- The two ways to an end. A dead letter stays until it is requeued, deleted or aged out; other records until their
-- retention has passed.
local function finish(job, state, reason, detail, fields)
  fields[#fields + 1] = 'finished'
  fields[#fields + 1] = NOW
  move(job, state, reason, detail, fields)
  tally(job.queue, 'f')
  if job.expires then redis.call('ZREM', expiring_key(job.queue), job.id) end
  if state == 'FAILED' then
    tally(job.queue, 'd')
    redis.call('ZADD', dead_key(job.queue), NOW, job.id)
  else
    redis.call('PEXPIRE', job_key(job.id), math.max(job.retention, 1))
  end
end

-- Ends a waiting job whose expire_time has passed: EXPIRED if it never started, else FAILED.
local function lapse(job)
  redis.call('ZREM', due_key(job.queue), job.id)
  finish(job, job.started and 'FAILED' or 'EXPIRED', job.started and 'EXPIRED' or '', '', {})
end

-- Ends a job that was asked to be cancelled while it ran; `cancel` holds 'time|who asked, and why'.
local function cancel_running(job, fields)
  finish(job, 'CANCELLED', 'REQUESTED', string.sub(job.cancel, string.find(job.cancel, '|', 1, true) + 1), fields)
end
