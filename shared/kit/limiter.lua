-- GCRA: one number for each client, the time at which all that it has used would have come back (theoretical arrival).
-- KEYS[1] the client   ARGV[1] requests in a window   ARGV[2] the window in microseconds
-- Returns: whether it may, how many are left, microseconds until all are back, microseconds until the next may.
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local window_us = tonumber(ARGV[2])
local step_us = window_us / tonumber(ARGV[1])
local full_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us)
-- A clock that was set back must not lock anybody out for longer than a window.
full_us = math.min(full_us, now_us + window_us) + step_us
local over_us = full_us - now_us - window_us
if over_us > 0.5 then
  return {0, 0, math.ceil(full_us - step_us - now_us), math.ceil(over_us)}
end
redis.call('SET', KEYS[1], string.format('%.3f', full_us), 'PX', math.ceil((full_us - now_us) / 1000))
return {1, math.floor((0.5 - over_us) / step_us), math.ceil(full_us - now_us), 0}
