-- The status of a QwenSFTJob follows kstatus: until success exactly one of Reconciling and Stalled is True.
local health = {status = "Progressing", message = "the operator has not seen this job yet"}
local status = obj.status or {}

if status.conditions == nil then
  return health
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "the operator has not seen the latest change yet"
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(type, value)
  return conditions[type] ~= nil and conditions[type].status == value
end

local policy = obj.spec.runPolicy or {}
local said = conditions["Succeeded"]
if said ~= nil then
  health.message = said.reason .. ": " .. said.message
end

if is("Succeeded", "True") then
  health.status = "Healthy"
elseif is("Succeeded", "False") or is("Stalled", "True") then
  health.status = "Degraded"
elseif is("Suspended", "True") and policy.suspend then
  -- A queue holds a run, too; but that goes on by itself, and so is Progressing.
  health.status = "Suspended"
end
return health
