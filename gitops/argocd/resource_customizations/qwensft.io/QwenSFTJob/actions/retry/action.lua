-- Any number starts the run again that is not the last one which the operator has taken note of.
local wanted = (obj.spec.runPolicy or {}).retry or 0
local noted = (obj.status or {}).retry or 0
obj.spec.runPolicy = obj.spec.runPolicy or {}
obj.spec.runPolicy.retry = (wanted > noted and wanted or noted) + 1
return obj
