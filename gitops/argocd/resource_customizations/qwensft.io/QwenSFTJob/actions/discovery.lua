local actions = {}
if obj.metadata.deletionTimestamp ~= nil then
  return actions
end

local succeeded = "Unknown"
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if condition.type == "Succeeded" then
    succeeded = condition.status
  end
end

-- A run that has failed and is suspended starts again only when it is resumed.
if (obj.spec.runPolicy or {}).suspend then
  actions["resume"] = {["iconClass"] = "fa fa-fw fa-play"}
elseif succeeded == "Unknown" then
  actions["suspend"] = {["iconClass"] = "fa fa-fw fa-pause"}
end
if succeeded == "False" then
  actions["retry"] = {["iconClass"] = "fa fa-fw fa-redo"}
end
return actions
