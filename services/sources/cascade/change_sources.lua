-- Change the states of sources: one change each (JSON).
--
-- KEYS  1   the states of the sources: a hash
-- include: source_state.lua
for _, change in ipairs(ARGV) do
  change_source(KEYS[1], cjson.decode(change))
end
return #ARGV
