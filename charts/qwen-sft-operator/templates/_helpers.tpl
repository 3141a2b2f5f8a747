{{- define "qwen-sft-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "qwen-sft-operator.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* app.kubernetes.io/managed-by is Helm here; on what the operator makes it is qwen-sft-operator. */}}
{{- define "qwen-sft-operator.ownLabels" -}}
{{ include "qwen-sft-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The labels of an object; what the values add changes none of the chart's own. */}}
{{- define "qwen-sft-operator.labels" -}}
{{- merge (include "qwen-sft-operator.ownLabels" . | fromYaml) (.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{/* An image's name with the registry before it: list of the root and the name. */}}
{{- define "qwen-sft-operator.inRegistry" -}}
{{- with (index . 0).Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ index . 1 -}}
{{- end -}}

{{- define "qwen-sft-operator.image" -}}
{{- include "qwen-sft-operator.inRegistry" (list . .Values.image.repository) -}}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "qwen-sft-operator.trainerImage" -}}
{{- include "qwen-sft-operator.inRegistry" (list . .Values.trainerImage) -}}
{{- end -}}

{{- define "qwen-sft-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "qwen-sft-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name an existing account, or set serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
Values that a release from before this chart has no value for: `helm upgrade --reuse-values` knows its values alone, so
every template reads those newer than the first chart through parentheses or these (ADR 0150).
*/}}
{{- define "qwen-sft-operator.allowed" -}}
{{- $allowed := .Values.allowed | default dict -}}
{{- $hostNetwork := ternary true $allowed.hostNetwork (kindIs "invalid" $allowed.hostNetwork) -}}
{{- dict "images" ($allowed.images | default list) "claims" ($allowed.claims | default list) "serviceAccounts" ($allowed.serviceAccounts | default list) "hostNetwork" $hostNetwork | toYaml -}}
{{- end -}}

{{/* The operator's settings for the NetworkPolicies of runs, as JSON: "" makes none. */}}
{{- define "qwen-sft-operator.networkRules" -}}
{{- $runs := (.Values.networkPolicies).runs | default dict -}}
{{- if $runs.enabled -}}
{{- $namespace := dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace) -}}
{{- $pods := dict "matchLabels" (include "qwen-sft-operator.selector" . | fromYaml) -}}
{{- $operator := dict "namespaceSelector" $namespace "podSelector" $pods -}}
{{- $prepare := $runs.prepareEgress | default list -}}
{{- $services := list -}}
{{- range .Values.linkLocalServices -}}
{{- $services = append $services (dict "ipBlock" (dict "cidr" (printf "%s/32" .))) -}}
{{- end -}}
{{- if $services -}}
{{- $ports := list (dict "protocol" "TCP" "port" 443) (dict "protocol" "TCP" "port" 80) -}}
{{- $prepare = append $prepare (dict "to" $services "ports" $ports) -}}
{{- end -}}
{{- dict "metricsFrom" (prepend ($runs.metricsFrom | default list) $operator) "egress" ($runs.egress | default list) "prepareEgress" $prepare | toJson -}}
{{- end -}}
{{- end -}}

{{/* Whether nodes may be read: "true" or "false". */}}
{{- define "qwen-sft-operator.readNodes" -}}
{{- if kindIs "invalid" .Values.readNodes -}}
{{- empty .Values.watchNamespaces -}}
{{- else -}}
{{- .Values.readNodes -}}
{{- end -}}
{{- end -}}

{{/* Whether Kubernetes' own roles are extended: "true" or "false". ADR 0152 says why. */}}
{{- define "qwen-sft-operator.userRoles" -}}
{{- if kindIs "invalid" .Values.userRoles -}}
{{- empty .Values.watchNamespaces -}}
{{- else -}}
{{- .Values.userRoles -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do where it serves QwenSFTJobs. It never updates or deletes what it did not make, but Jobs. */}}
{{- define "qwen-sft-operator.rules" -}}
- apiGroups: [qwensft.io]
  resources: [qwensftjobs]
  verbs: [get, list, watch]
- apiGroups: [qwensft.io]
  resources: [qwensftjobs/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Of Services and ConfigMaps only the metadata is listed and watched, of all three only what carries the labels of a run.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create]
# delete: those of attempts that ended long ago.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, delete]
# patch: to let the Service of a run that began under an earlier version select by the run's UID.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# list: why a Job could not create pods (quota, Pod Security), a claim has no volume or a pod cannot mount one stands
# nowhere but in events.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
# Why Kueue does not admit a training, and the place it has in its queue. Without Kueue these rules do nothing.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list]
- apiGroups: [visibility.kueue.x-k8s.io]
  resources: [localqueues/pendingworkloads]
  verbs: [get]
{{- if ((.Values.networkPolicies).runs).enabled }}
# patch: what the values add may change while a run goes on.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch]
{{- end }}
{{- end -}}

{{/* What ServiceMonitor and PodMonitor say alike of their endpoint. */}}
{{- define "qwen-sft-operator.scraping" -}}
{{- $said := dict -}}
{{- range $key := list "interval" "scrapeTimeout" "metricRelabelings" -}}
{{- with get $ $key }}{{ $_ := set $said $key . }}{{ end -}}
{{- end -}}
{{- if $said }}{{ toYaml $said }}{{ end -}}
{{- end -}}
