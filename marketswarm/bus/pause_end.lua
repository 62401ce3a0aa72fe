-- A function that the scripts include which keep until when something is left alone.

-- Returns until when a pause lasts. A clock that was ahead when the pause began and was set back since makes it no
-- longer than it was to be.
--   ends     the stored end, epoch milliseconds
--   written  what is stored beside it, '<end>:<length in ms>'; it counts if it names the same end
--   longest  the milliseconds of the longest pause, also of one whose length is not known
local function bound_end(ends, written, now, longest)
  local of_end, length = string.match(written or '', '^(%d+):(%d+)$')
  local most = tonumber(of_end) == ends and tonumber(length) or longest
  return math.min(ends, now + math.min(most, longest))
end

-- Returns what is to be stored beside the end of a pause.
local function write_length(ends, length)
  return string.format('%.0f:%.0f', ends, length)
end
