{{- define "worker.namespace" -}}
{{- .Values.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* The labels by which pods are found: the original's, since a Deployment's selector never changes. */}}
{{- define "worker.selectorLabels" -}}
sandboxId: {{ .Values.sandboxId | quote }}
{{- end -}}

{{- define "worker.labels" -}}
{{ include "worker.selectorLabels" . }}
app.kubernetes.io/name: worker
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "worker.image" -}}
{{- $image := .Values.image -}}
{{- if not $image.repository }}{{ $image = .Values.python.image }}{{ end -}}
{{- $repository := required "image.repository: name the worker's image" $image.repository -}}
{{- $tag := required "image.tag: name the image's tag" $image.tag -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end }}{{ $repository }}:{{ $tag }}
{{- end -}}

{{/* Helm reads a number without quotes as a float, and writes it with an exponent. */}}
{{- define "worker.accountId" -}}
{{- $id := .Values.myAccount.accountId -}}
{{- if kindIs "string" $id }}{{ $id }}{{ else }}{{ printf "%012d" (int64 $id) }}{{ end -}}
{{- end -}}

{{/* The gateway of production and staging does not start without an account, so nothing else does. */}}
{{- define "worker.accountCheck" -}}
{{- $local := has (.Values.gateway.env.CLUSTER_ENV | default "" | toString | lower) (list "development" "test") -}}
{{- if and (not $local) (not (regexMatch "^[0-9]{12}$" (include "worker.accountId" .))) -}}
{{- fail "myAccount.accountId: give the twelve digits of the AWS account that has queue, buckets and Redis" -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes in bytes: 44Gi, 1500M, 4e9. */}}
{{- define "worker.bytes" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "(k|[KMGT]i?)$" $text -}}
{{- $units := dict "" 1 "k" 1000 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) | int64 -}}
{{- end -}}

{{/* The engine's limit of memory: what its settings let its processes use, or what it asks for where that is more. */}}
{{- define "worker.engineMemoryLimit" -}}
{{- $env := .Values.engine.env -}}
{{- $workers := addf (get $env "SHORT_WORKERS" | default 2 | float64) (get $env "LONG_WORKERS" | default 1 | float64) -}}
{{- $tasks := mulf $workers (get $env "TASK_MEMORY_GB" | default 4 | float64) -}}
{{- $gigabytes := addf $tasks (get $env "LOAD_MEMORY_GB" | default 4 | float64) 2 | ceil | int64 -}}
{{- if gt (include "worker.bytes" .Values.r.memoryRequest | int64) (mul $gigabytes 1073741824) -}}
{{- .Values.r.memoryRequest -}}
{{- else -}}
{{- printf "%dGi" $gigabytes -}}
{{- end -}}
{{- end -}}

{{/* Whether the node's metadata address may be reached. */}}
{{- define "worker.metadata" -}}
{{- if eq (toString .Values.networkPolicy.metadata) "" -}}
{{- if not .Values.serviceAccount.iamRole }}true{{ end -}}
{{- else if eq (toString .Values.networkPolicy.metadata) "true" }}true{{ end -}}
{{- end -}}

{{- define "worker.volume" -}}
{{- if . }}{sizeLimit: {{ . | quote }}}{{ else }}{}{{ end -}}
{{- end -}}

{{- define "worker.secretName" -}}
{{- .Values.journalKeySecret | default (printf "%s-journal" .Release.Name) -}}
{{- end -}}

{{/* What every container of ours may do: nothing beyond computing. */}}
{{- define "worker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "worker.scalesToZero" -}}
{{- if eq (toString .Values.scaleToZero.enabled) "" -}}
{{- if or (eq .Values.kubernetes.env "staging") (has (include "worker.accountId" .) .Values.scaleToZero.accounts) }}true{{ end -}}
{{- else if eq (toString .Values.scaleToZero.enabled) "true" }}true{{ end -}}
{{- end -}}

{{- define "worker.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "worker.graceCheck" -}}
{{- if ge (int .Values.graceSeconds) (int .Values.terminationGracePeriodSeconds) -}}
{{- fail "graceSeconds: must be less than terminationGracePeriodSeconds, or Kubernetes kills what could be handed back" -}}
{{- end -}}
{{- end -}}
