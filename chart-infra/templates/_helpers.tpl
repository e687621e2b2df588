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
