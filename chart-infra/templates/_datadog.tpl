{{/* The agent in each pod, as the platform's accounts without nodes of their own (Fargate) need it. */}}
{{- define "worker.datadogContainer" -}}
- name: datadog-agent
  image: {{ .Values.datadogImage | default "datadog/agent:7" | quote }}
  env:
    - name: DD_API_KEY
      valueFrom:
        secretKeyRef: {name: {{ printf "%s-datadog" .Release.Name | quote }}, key: apiKey}
    - {name: DD_SITE, value: datadoghq.eu}
    - {name: DD_EKS_FARGATE, value: "true"}
    - {name: DD_CLUSTER_NAME, value: {{ printf "biomage-%s" .Values.kubernetes.env | quote }}}
    - {name: DD_TAGS, value: {{ .Values.datadogTags | quote }}}
    - {name: DD_KUBERNETES_POD_LABELS_AS_TAGS, value: '{"*": "%%label%%"}'}
    - {name: DD_LOGS_ENABLED, value: "false"}
    - {name: DD_CONTAINER_EXCLUDE_METRICS, value: "name:.*"}
    - {name: DD_CONTAINER_INCLUDE_METRICS, value: {{ printf "name:^%s$ name:^%s-r$" .Release.Name .Release.Name | quote }}}
    - name: DD_KUBERNETES_KUBELET_NODENAME
      valueFrom:
        fieldRef: {apiVersion: v1, fieldPath: spec.nodeName}
  # The agent's image starts as root and has a root file system of its own to write to.
  securityContext: {runAsUser: 0, runAsGroup: 0, runAsNonRoot: false, allowPrivilegeEscalation: false}
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {memory: 512Mi}
{{- end -}}
