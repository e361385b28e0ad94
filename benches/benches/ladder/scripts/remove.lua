-- Envoy's Lua filter: what a site would write to keep Part 2 records back. Envoy has no JSON library for Lua, so the script
-- brings one: texts up to the next quote or backslash are taken in one step, numbers and words by pattern.
local PART2 = "42CFRPart2"
local INLINE = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
local byte, find, sub, concat = string.byte, string.find, string.sub, table.concat
local NULL = {}
local LIST = {}
-- A backslash stays as it is written, too.
local PLAIN = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ["\\"] = "\\\\" }
local value

local function text(s, at)
  local parts, from = nil, at + 1
  local i = from
  while true do
    i = find(s, '["\\]', i)
    if byte(s, i) == 34 then
      local last = sub(s, from, i - 1)
      if parts then
        parts[#parts + 1] = last
        last = concat(parts)
      end
      return last, i + 1
    end
    parts = parts or {}
    parts[#parts + 1] = sub(s, from, i - 1)
    local c = sub(s, i + 1, i + 1)
    if c == "u" then
      -- Left as it is written: it is written back the same way.
      parts[#parts + 1] = "\\u" .. sub(s, i + 2, i + 5)
      from = i + 6
    else
      parts[#parts + 1] = PLAIN[c] or c
      from = i + 2
    end
    i = from
  end
end

local function space(s, at)
  return find(s, "[^ \t\r\n]", at)
end

local function object(s, at)
  local o = {}
  at = space(s, at + 1)
  if byte(s, at) == 125 then return o, at + 1 end
  while true do
    local name
    name, at = text(s, at)
    at = space(s, at)
    o[name], at = value(s, space(s, at + 1))
    at = space(s, at)
    if byte(s, at) == 125 then return o, at + 1 end
    at = space(s, at + 1)
  end
end

local function list(s, at)
  local l, n = { [LIST] = true }, 0
  at = space(s, at + 1)
  if byte(s, at) == 93 then return l, at + 1 end
  while true do
    n = n + 1
    l[n], at = value(s, at)
    at = space(s, at)
    if byte(s, at) == 93 then return l, at + 1 end
    at = space(s, at + 1)
  end
end

value = function(s, at)
  local c = byte(s, at)
  if c == 34 then return text(s, at) end
  if c == 123 then return object(s, at) end
  if c == 91 then return list(s, at) end
  local _, last = find(s, "^[%w%.%+%-]+", at)
  local word = sub(s, at, last)
  if word == "true" then return true, last + 1 end
  if word == "false" then return false, last + 1 end
  if word == "null" then return NULL, last + 1 end
  return tonumber(word), last + 1
end

local ESCAPED = { ['"'] = '\\"', ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function write(v, out)
  local kind = type(v)
  if kind == "string" then
    if find(v, '[%c"]') then v = string.gsub(v, '[%c"]', ESCAPED) end
    out[#out + 1] = '"' .. v .. '"'
  elseif v == NULL then
    out[#out + 1] = "null"
  elseif kind ~= "table" then
    out[#out + 1] = tostring(v)
  elseif v[LIST] then
    out[#out + 1] = "["
    for i = 1, #v do
      if i > 1 then out[#out + 1] = "," end
      write(v[i], out)
    end
    out[#out + 1] = "]"
  else
    local mark = "{"
    for name, member in pairs(v) do
      out[#out + 1] = mark .. '"' .. name .. '":'
      write(member, out)
      mark = ","
    end
    out[#out + 1] = mark == "{" and "{}" or "}"
  end
end

local function has(resource, code)
  local security = resource.meta and resource.meta.security
  for _, coding in ipairs(security or {}) do
    if coding.code == code then return true end
  end
  return false
end

local function protected(element)
  if type(element) ~= "table" or type(element.extension) ~= "table" then return false end
  for _, one in ipairs(element.extension) do
    if one.url == INLINE and one.valueCoding and one.valueCoding.code == PART2 then return true end
  end
  return false
end

local function without(v)
  if type(v) ~= "table" or v == NULL then return v end
  local kept = {}
  if v[LIST] then
    kept[LIST] = true
    for _, item in ipairs(v) do
      if not protected(item) then kept[#kept + 1] = without(item) end
    end
    return kept
  end
  for name, member in pairs(v) do
    if not protected(member) then kept[name] = without(member) end
  end
  return kept
end

function envoy_on_response(handle)
  local body = handle:body()
  if body == nil then return end
  local bundle = value(body:getBytes(0, body:length()), 1)
  local kept = { [LIST] = true }
  for _, entry in ipairs(bundle.entry) do
    if not has(entry.resource, PART2) then
      if has(entry.resource, "PROCESSINLINELABEL") then entry.resource = without(entry.resource) end
      kept[#kept + 1] = entry
    end
  end
  bundle.entry, bundle.total = kept, nil
  local out = {}
  write(bundle, out)
  local written = concat(out)
  body:setBytes(written)
  handle:headers():replace("content-length", tostring(#written))
end
