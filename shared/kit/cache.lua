-- The newest version that is known of a key wins. ARGV[1] is what to do:
--   look        KEYS entry, lease; ARGV token, ms to lease: the entry, or the lease if there is none and it is free
--   fill        KEYS entry, lease; ARGV version, entry, ms to keep, token: stores it, and gives the lease back
--   invalidate  KEYS entry; ARGV version, entry, ms to keep: a tombstone, so that older ones still on their way lose
--   release     KEYS entry, lease; ARGV token
-- An entry begins with its kind and its version: V12, N0 or T13.
local function version_there()
  return tonumber(string.match(redis.call('GETRANGE', KEYS[1], 0, 31), '^%u(%d+)') or -1)
end

local function release(token)
  if token ~= '' and redis.call('GET', KEYS[2]) == token then redis.call('DEL', KEYS[2]) end
end

local action = ARGV[1]
if action == 'look' then
  local stored = redis.call('GET', KEYS[1])
  if stored and string.sub(stored, 1, 1) ~= 'T' then return {0, stored} end
  return {redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) and 1 or 0, stored}
end
if action == 'release' then
  release(ARGV[2])
  return 0
end

local version, there = tonumber(ARGV[2]), version_there()
local wins = version >= there
if action == 'invalidate' then wins = version > there end -- what is stored of the same version is as new as it gets
if wins then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
if action == 'fill' then release(ARGV[5]) end
return wins and 1 or 0
