#!lua flags=allow-oom
-- Gives a worker up to `count` queued jobs and the lease of each: QUEUED → PROCESSING.
-- Reads the streams in the order given; entries whose job was cancelled or has ended are cleared away on the way.
-- A paused queue hands out nothing; what a blocking read has delivered of it goes back to the front.
-- Run again with the same token and resume 1, it returns once more what a call whose reply was lost had claimed.
-- KEYS[1]  '{namespace:shard}:queues'
-- ARGV[1]  worker, the consumer's name
-- ARGV[2]  token of this claim
-- ARGV[3]  lease in ms
-- ARGV[4]  count: jobs at the most
-- ARGV[5]  resume: 1 to look at the worker's own pending entries first
-- ARGV[6]  number of streams; then for each 2 values: queue, priority
-- ARGV     then for each entry that a blocking read has delivered 4 values: queue, priority, entry id, job id
-- Reply    1 where it stopped at its bound with entries left to look at, else 0; the paused ones among the queues, with
--          commas between them; then for each job 10 values:
--          id, queue, priority, spec, payload, attempt, crashes, version, time created, time started
local WORKER, TOKEN, LEASE = ARGV[1], ARGV[2], ARGV[3]
local want = tonumber(ARGV[4])
local READS = 500 -- entries that one call looks at, at the most

local last_stream = 6 + 2 * tonumber(ARGV[6])
for i = 7, last_stream, 2 do expect_queue(ARGV[i]) end

local paused, names = {}, {}
for i = 7, last_stream, 2 do
  local queue = ARGV[i]
  if paused[queue] == nil then
    paused[queue] = redis.call('HEXISTS', queue_key(queue), 'paused_at') == 1
    if paused[queue] then names[#names + 1] = queue end
  end
end

local reply = {0, table.concat(names, ',')}
local function give(job)
  local f = redis.call('HMGET', job_key(job.id), 'spec', 'payload')
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = job.id, job.queue, job.priority, f[1], f[2]
  reply[n + 6], reply[n + 7], reply[n + 8], reply[n + 9] = job.attempt, job.crashes, job.version, job.created
  reply[n + 10] = tonumber(job.started)
  want = want - 1
end

local function runs(job, place) return job and job.state == 'PROCESSING' and job.entry == place end

local function take(queue, priority, entry, id, late)
  local key, place = ready_key(queue, priority), priority .. ' ' .. entry
  local job = id and load(id)
  if runs(job, place) then
    return -- and is given already, where the call whose reply was lost had claimed it
  elseif not job or job.state ~= 'QUEUED' or job.entry ~= place then -- a tombstone
    drop(key, entry)
  elseif job.expires and job.expires <= NOW then
    lapse(job)
    drop(key, entry)
  elseif want <= 0 or paused[queue] then -- delivered and not to be had: back to the front, still QUEUED
    put_back(job, FRONT)
    drop(key, entry)
  else
    -- The store counts a lease from the delivery; of an entry that was delivered a while ago it begins now.
    if late then redis.call('XCLAIM', key, 'workers', WORKER, 0, entry, 'JUSTID') end
    job.attempt = job.attempt + 1
    job.started = NOW
    move(job, 'PROCESSING', '', WORKER, {
      'token', TOKEN, 'worker', WORKER, 'entry', place, 'lease', LEASE, 'started', NOW,
    })
    give(job)
  end
end

-- Visits all entries that are pending for this worker; it has no more of them than it runs jobs, and a few.
local function each_pending(visit)
  for i = 7, last_stream, 2 do
    local key, from = ready_key(ARGV[i], ARGV[i + 1]), '-'
    ensure_group(key)
    repeat
      local page = redis.call('XPENDING', key, 'workers', from, '+', READS, WORKER)
      for _, pending in ipairs(page) do
        local entry = redis.call('XRANGE', key, pending[1], pending[1])[1]
        visit(ARGV[i], ARGV[i + 1], pending[1], entry and entry[2][2])
        from = '(' .. pending[1]
      end
    until #page < READS
  end
end

-- The jobs of the lost call come first, so that what was delivered since then cannot make them too many.
if ARGV[5] == '1' then
  local others = {}
  each_pending(function(queue, priority, entry, id)
    local job = id and load(id)
    if not runs(job, priority .. ' ' .. entry) then
      others[#others + 1] = {queue, priority, entry, id}
    elseif job.token == TOKEN then
      give(job)
    end
  end)
  for _, other in ipairs(others) do take(other[1], other[2], other[3], other[4], true) end
end
-- A delivery that waited too long for its claim may have been taken from this worker: then it is not ours to run.
for i = last_stream + 1, #ARGV, 4 do
  local key, entry = ready_key(ARGV[i], ARGV[i + 1]), ARGV[i + 2]
  ensure_group(key)
  if #redis.call('XPENDING', key, 'workers', entry, entry, 1, WORKER) == 1 then
    take(ARGV[i], ARGV[i + 1], entry, ARGV[i + 3], true)
  end
end

local reads = READS
for i = 7, last_stream, 2 do
  local key = ready_key(ARGV[i], ARGV[i + 1])
  while want > 0 and reads > 0 and not paused[ARGV[i]] do
    local asked = math.min(want, reads)
    local read = redis.pcall('XREADGROUP', 'GROUP', 'workers', WORKER, 'COUNT', asked, 'STREAMS', key, '>')
    if read and read.err then
      if not string.find(tostring(read.err), 'NOGROUP', 1, true) then error(read) end
      ensure_group(key)
      read = redis.call('XREADGROUP', 'GROUP', 'workers', WORKER, 'COUNT', asked, 'STREAMS', key, '>')
    end
    local entries = read and read[1] and read[1][2] or {}
    for _, entry in ipairs(entries) do take(ARGV[i], ARGV[i + 1], entry[1], entry[2] and entry[2][2]) end
    reads = reads - #entries
    if #entries < asked then break end
  end
end
if want > 0 and reads <= 0 then reply[1] = 1 end
flush_counters()
return reply
