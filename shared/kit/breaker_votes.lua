-- One exchange between an environment and its fleet. Times are milliseconds of this server's clock.
-- KEYS: 1 votes (sorted set: environment -> when its vote ends), 2 state (hash; absent: closed)
-- Both keys expire, and only a vote or a step of the state moves that moment: a refused caller keeps nothing alive.
local votes_key, state_key = KEYS[1], KEYS[2]
local environment, vote, action, token = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local lease_ms, quorum, vote_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local base_ms, max_ms, probes = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local CLOSED, REJECT, LEASED = 0, 1, 2
local FIELDS = {'generation', 'open_until', 'interval', 'lease_until', 'good', 'ends'}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function load()
  local values = redis.call('HMGET', state_key, unpack(FIELDS))
  if not values[1] then return nil end
  local state = {}
  for i, field in ipairs(FIELDS) do state[field] = tonumber(values[i]) end
  if now >= state.ends then return nil end
  if state.lease_until > 0 and now >= state.lease_until then
    -- The holder is lost: as bad as a failed probe, since the lease ended.
    state.interval = math.min(state.interval * 2, max_ms)
    state.open_until = state.lease_until + state.interval
    state.lease_until, state.good = 0, 0
  end
  return state
end

local function save(state)
  local pairs_ = {}
  for _, field in ipairs(FIELDS) do
    pairs_[#pairs_ + 1] = field
    pairs_[#pairs_ + 1] = string.format('%.0f', state[field])
  end
  redis.call('HSET', state_key, unpack(pairs_))
  redis.call('PEXPIREAT', state_key, string.format('%.0f', state.ends))
  return state
end

local function open(generation, interval)
  return save({
    generation = math.max(generation + 1, now), open_until = now + interval, interval = interval,
    lease_until = 0, good = 0, ends = now + interval + vote_ms,
  })
end

local function settle(state)
  if action == 'bad' then return open(state.generation, math.min(state.interval * 2, max_ms)) end
  if action == 'good' then state.good = state.good + 1 end
  if state.good >= probes then
    redis.call('DEL', votes_key, state_key)
    return nil
  end
  state.lease_until, state.ends = 0, now + vote_ms
  return save(state)
end

local function cast()
  redis.call('ZREMRANGEBYSCORE', votes_key, '-inf', now)
  redis.call('ZADD', votes_key, now + vote_ms, environment)
  local last = redis.call('ZRANGE', votes_key, -1, -1, 'WITHSCORES')
  redis.call('PEXPIREAT', votes_key, last[2])
  return redis.call('ZCARD', votes_key)
end

local state = load()
local settles = action == 'good' or action == 'bad' or action == 'void'
if state and settles and state.generation == token and now < state.lease_until then state = settle(state) end

if vote > 0 then
  if cast() >= quorum and not state then state = open(0, base_ms) end
elseif vote < 0 then
  redis.call('ZREM', votes_key, environment)
end

if not state then return {CLOSED, 0, 0} end
local wait_ms = math.max(state.open_until - now, state.lease_until - now, 0)
if wait_ms > 0 or action ~= 'admit' then return {REJECT, wait_ms, 0} end
-- Larger than any before, even where the state was lost: the clock goes on.
state.generation = math.max(state.generation + 1, now)
state.lease_until = now + lease_ms
state.ends = state.lease_until + math.min(state.interval * 2, max_ms) + vote_ms
save(state)
return {LEASED, lease_ms, state.generation}
