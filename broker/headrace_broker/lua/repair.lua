#!lua flags=allow-oom
-- Mends what should not be possible, a bounded part of a shard at a time. A record says what its job is, so the record
-- is believed, and the job is put back where its state belongs; no job changes its state here. Scripts are atomic:
-- what disagrees inside of one is not in motion, it is broken.
-- One process at a time goes through the shard: a pass begins with the walk over the records.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  who asks
-- ARGV[2]  ms that the turn stays with them after this call
-- ARGV[3]  ms between the beginnings of two passes
-- ARGV[4]  limit: records and index entries to look at, about
-- ARGV[5]  walk: 'records' or 'places'
-- ARGV[6]  cursor of the walk, '' at its beginning
-- ARGV[7]  places: 1 to recount the counters as well, of queues that hold no more jobs than the limit; give it where
--          the pass has found nothing else to repair
-- ARGV     places: the queues to look at
-- Reply    4 values: 0, or ms after which to begin a pass, for another process has the turn or it is too early; the
--          next cursor, '' at the end; a list of what was repaired: kind, how many, …; a list of keys of a wrong type
local WHO, HOLD, PASS, LIMIT = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local left = LIMIT
local repairs = SHARD .. 'repairs'
local repaired, misfits = {}, {}
local function note(kind, many) repaired[kind] = (repaired[kind] or 0) + (many or 1) end

-- Whether every key of a queue is of its type. One that is not keeps its own queue from being repaired, no other.
local fit = {}
local function is_fit(queue)
  if fit[queue] == nil then
    local misfit = misfit_of(queue)
    fit[queue] = not misfit
    if misfit then misfits[#misfits + 1] = misfit end
  end
  return fit[queue]
end

local listed = {}
local function list(queue)
  if not listed[queue] and redis.call('SADD', KEYS[1], queue) == 1 then note('unknown queue') end
  listed[queue] = true
end

local function regroup(key)
  if checked[key] == 'there' and ensure_group(key) then note('missing group') end
end

-- The record's own word for where its entry is: stream, entry id, whether the stream has it there for this job.
local function lies(job)
  local priority, entry = string.match(job.entry or '', '^(%l+) (%d+%-%d+)$')
  if not LEVEL[priority] then return nil, nil, false end
  local key = ready_key(job.queue, priority)
  local found = redis.call('XRANGE', key, entry, entry)[1]
  return key, entry, found ~= nil and found[2][2] == job.id
end

local function mend_queued(job)
  local _, _, there = lies(job)
  if there then return end
  local priority = string.match(job.entry or '', '^%l+')
  put_back(job, LEVEL[priority] and priority or job.priority)
  note('queued without an entry')
end

-- Gives the job back into the hands of its worker: if that lives, it renews the lease as before and runs on; if not,
-- the lease runs out. A new entry will be delivered, and the claim that meets it leaves it alone: the job runs.
local function mend_running(job)
  local key, entry, there = lies(job)
  if there then
    regroup(key)
    if #redis.call('XPENDING', key, 'workers', entry, entry, 1) == 1 then return end
  else
    if key then drop(key, entry) end
    put_back(job, FRONT)
    key, entry = claimed_at(job)
    regroup(key)
  end
  redis.call('XCLAIM', key, 'workers', job.worker or '?', 0, entry, 'FORCE', 'JUSTID')
  note('running without a lease')
end

local function mend_scheduled(job)
  if redis.call('ZSCORE', due_key(job.queue), job.id) then return end
  schedule(job, tonumber(job.due) or NOW)
  note('waiting off the schedule')
end

local function mend_failed(job)
  if redis.call('ZSCORE', dead_key(job.queue), job.id) then return end
  redis.call('ZADD', dead_key(job.queue), tonumber(redis.call('HGET', job_key(job.id), 'finished')) or NOW, job.id)
  note('dead letter off the list')
end

local MEND = {
  QUEUED = mend_queued, PROCESSING = mend_running,
  SCHEDULED = mend_scheduled, RETRYING = mend_scheduled, FAILED = mend_failed,
}

local function mend_lifetime(job)
  local expires = redis.call('PTTL', job_key(job.id)) >= 0
  if MEND[job.state] and expires then
    redis.call('PERSIST', job_key(job.id))
    note('record about to expire')
  elseif not MEND[job.state] and not expires then
    redis.call('PEXPIRE', job_key(job.id), math.max(job.retention, 1))
    note('record without an end')
  end
  if job.expires and WAITING[job.state] and not redis.call('ZSCORE', expiring_key(job.queue), job.id) then
    redis.call('ZADD', expiring_key(job.queue), job.expires, job.id)
    note('expiry off the list')
  end
end

local function is_whole(job)
  return LETTER[job.state] and job.queue and LEVEL[job.priority] and job.retention
end

local function walk_records(cursor)
  local prefix = job_key('')
  local page = redis.call('SCAN', cursor == '' and '0' or cursor, 'MATCH', prefix .. '*', 'COUNT', LIMIT)
  for _, key in ipairs(page[2]) do
    local job = load(string.sub(key, #prefix + 1))
    if job and is_whole(job) and is_fit(job.queue) then
      list(job.queue)
      if MEND[job.state] then MEND[job.state](job) end
      mend_lifetime(job)
    end
  end
  return page[1] == '0' and '' or page[1]
end

-- Each of these looks at a page of one place from a cursor on, and returns the next cursor, '' at the end.
local function page_of(key_of, belongs)
  return function(queue, cursor)
    local key = key_of(queue)
    local page = redis.call('ZSCAN', key, cursor == '' and '0' or cursor, 'COUNT', LIMIT)
    for i = 1, #page[2], 2 do
      local job = load(page[2][i])
      if not (job and job.queue == queue and belongs[job.state]) then
        redis.call('ZREM', key, page[2][i])
        note('stale entry')
      end
    end
    left = left - #page[2] / 2
    return page[1] == '0' and '' or page[1]
  end
end

local function pending_of(priority)
  return function(queue, cursor)
    local key = ready_key(queue, priority)
    if checked[key] ~= 'there' and checked[key] ~= 'grouped' then return '' end
    regroup(key)
    local page = redis.call('XPENDING', key, 'workers', cursor == '' and '-' or '(' .. cursor, '+', LIMIT)
    for _, pending in ipairs(page) do
      local found = redis.call('XRANGE', key, pending[1], pending[1])[1]
      local job = found and load(found[2][2])
      local here = job and job.entry == priority .. ' ' .. pending[1]
      if not (here and (job.state == 'PROCESSING' or job.state == 'QUEUED')) then
        drop(key, pending[1])
        note('stale delivery')
      end
    end
    left = left - #page
    return #page < LIMIT and '' or page[#page][1]
  end
end

local LIVE = {'SCHEDULED', 'QUEUED', 'PROCESSING', 'RETRYING'}
local function places(queue)
  local many = redis.call('ZCARD', due_key(queue))
  for _, priority in ipairs(PRIORITIES) do many = many + redis.call('XLEN', ready_key(queue, priority)) end
  return many
end

-- Corrects counters that were off by as much a pass ago. Between the two, all records were found in their places: else
-- it would be the places that are wrong, and the counters right.
local function correct(queue, found)
  local key, drift, off = queue_key(queue), {}, false
  for i, kept in ipairs(redis.call('HMGET', key, unpack(LIVE))) do
    drift[i] = (tonumber(kept or 0) or -1) - found[LIVE[i]]
    off = off or drift[i] ~= 0
  end
  local noted = redis.call('HGET', repairs, 'drift:' .. queue)
  if off and noted == table.concat(drift, ' ') then
    for i, state in ipairs(LIVE) do
      if drift[i] ~= 0 then
        redis.call('HSET', key, state, found[state])
        note('wrong counter')
      end
    end
    off = false
  end
  if off then
    redis.call('HSET', repairs, 'drift:' .. queue, table.concat(drift, ' '))
  elseif noted then
    redis.call('HDEL', repairs, 'drift:' .. queue)
  end
end

local function recount(queue)
  if ARGV[7] ~= '1' or places(queue) > LIMIT then return '' end
  local found = {SCHEDULED = 0, QUEUED = 0, PROCESSING = 0, RETRYING = 0}
  local function add(id, place)
    local job = load(id)
    if job and job.queue == queue and found[job.state] and (not place or job.entry == place) then
      found[job.state] = found[job.state] + 1
    end
    left = left - 1
  end
  for _, priority in ipairs(PRIORITIES) do
    for _, entry in ipairs(redis.call('XRANGE', ready_key(queue, priority), '-', '+')) do
      add(entry[2][2], priority .. ' ' .. entry[1])
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', due_key(queue), 0, -1)) do add(id) end
  correct(queue, found)
  return ''
end

local PLACES = {
  page_of(due_key, {SCHEDULED = true, RETRYING = true}),
  page_of(dead_key, {FAILED = true}),
  page_of(expiring_key, {SCHEDULED = true, QUEUED = true, RETRYING = true, PROCESSING = true}),
  pending_of('high'), pending_of('normal'), pending_of('low'),
  recount,
}

local function walk_places(cursor)
  local queue, place, inner = string.match(cursor, '^(%d+) (%d+) (.*)$')
  queue, place, inner = tonumber(queue or 8), tonumber(place or 1), inner or ''
  while queue <= #ARGV and left > 0 do
    if not is_fit(ARGV[queue]) then place, inner = #PLACES, '' else inner = PLACES[place](ARGV[queue], inner) end
    left = left - 1
    if inner == '' then place = place + 1 end
    if place > #PLACES then queue, place = queue + 1, 1 end
  end
  return queue <= #ARGV and queue .. ' ' .. place .. ' ' .. inner or ''
end

expect(repairs, 'hash')
expect(KEYS[1], 'set')
local owner, kept_until, began = unpack(redis.call('HMGET', repairs, 'owner', 'until', 'began'))
local wait = owner ~= WHO and tonumber(kept_until or 0) - NOW or 0
local begins = ARGV[5] == 'records' and ARGV[6] == ''
if begins then wait = math.max(wait, tonumber(began or 0) + PASS - NOW) end
if wait > 0 then return {math.min(wait, PASS), '', {}, {}} end
if begins then redis.call('HSET', repairs, 'began', NOW) end
redis.call('HSET', repairs, 'owner', WHO, 'until', NOW + HOLD)

local cursor
if ARGV[5] == 'records' then cursor = walk_records(ARGV[6]) else cursor = walk_places(ARGV[6]) end
ring_promoters()
local list = {}
for kind, many in pairs(repaired) do
  list[#list + 1], list[#list + 2] = kind, many
  redis.call('HINCRBY', repairs, kind, many)
end
return {0, cursor, list, misfits}
