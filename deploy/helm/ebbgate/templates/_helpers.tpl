{{/* Labels of an object. Context: root and component. */}}
{{- define "ebbgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "ebbgate.selector" . }}
{{- end }}

{{/* Labels by which pods are selected: for ever the same, as selectors can't be changed. */}}
{{- define "ebbgate.selector" -}}
app.kubernetes.io/name: ebbgate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The reference of an image. Context: root and image. */}}
{{- define "ebbgate.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The image that nats-server comes from: that of the services has it. */}}
{{- define "ebbgate.nats.image" -}}
{{- include "ebbgate.image" (dict "root" . "image" (ternary .Values.nats.image .Values.image (ne .Values.nats.image.repository ""))) -}}
{{- end }}

{{- define "ebbgate.nats.url" -}}
{{- .Values.nats.url | default (printf "nats://ebbgate-nats.%s.svc:4222" .Release.Namespace) -}}
{{- end }}

{{/* How every service reaches the bus. */}}
{{- define "ebbgate.nats.env" -}}
- name: EBBGATE_NATS_URL
  value: {{ include "ebbgate.nats.url" . | quote }}
{{- end }}

{{- define "ebbgate.podName" -}}
valueFrom:
  fieldRef:
    fieldPath: metadata.name
{{- end }}

{{/* What all pods but the programmer's are: the restricted pod security standard. */}}
{{- define "ebbgate.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "ebbgate.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where the pods of a Deployment or StatefulSet go. Context: root, component and values. */}}
{{- define "ebbgate.placement" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ebbgate.spread" -}}
topologySpreadConstraints:
  {{- range (list "kubernetes.io/hostname" "topology.kubernetes.io/zone") }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "ebbgate.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* `host`: where it is, if not at the pod's address. */}}
{{- define "ebbgate.probes" -}}
{{- $host := "" -}}
{{- with .host }}{{ $host = printf "host: %s, " . }}{{ end -}}
startupProbe:
  httpGet: { {{- $host }}path: /healthz, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { {{- $host }}path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { {{- $host }}path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 5
{{- end }}

{{- define "ebbgate.nats.conf" -}}
server_name: $POD_NAME
listen: 0.0.0.0:4222
http: 0.0.0.0:8222
max_payload: 4MB
jetstream {
  store_dir: /data
}
{{- if gt (int .Values.nats.replicas) 1 }}
cluster {
  name: ebbgate
  listen: 0.0.0.0:6222
  # Clients come by the Service's name, which certificates are for, not by the pods' addresses.
  no_advertise: true
  routes: [
    {{- range $i := until (int .Values.nats.replicas) }}
    nats://ebbgate-nats-{{ $i }}.ebbgate-nats-servers.{{ $.Release.Namespace }}.svc:6222
    {{- end }}
  ]
}
{{- end }}
{{- end }}

{{/* The container that touches the node's kernel. Context: root, name, command, profile. */}}
{{- define "ebbgate.programmer" -}}
{{- $values := .root.Values.programmer -}}
name: {{ .name }}
image: {{ include "ebbgate.image" (dict "root" .root "image" $values.image) }}
imagePullPolicy: {{ $values.image.pullPolicy }}
command: [ebbgate-programmer, {{ .command }}]
env:
  {{- include "ebbgate.nats.env" .root | nindent 2 }}
  - name: EBBGATE_NODE
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  - name: EBBGATE_PORT
    value: {{ $values.port | quote }}
  - name: EBBGATE_ATTACH
    value: {{ $values.attach }}
  - name: EBBGATE_DIRECT
    value: {{ $values.direct | quote }}
  - name: EBBGATE_RESYNC
    value: {{ $values.resyncSeconds | quote }}
  # A container's own /proc/sys is read-only.
  - name: EBBGATE_PROC_SYS
    value: /host/proc/sys
  {{- if eq .command "run" }}
  - name: EBBGATE_HEALTH_PORT
    value: {{ $values.health.port | quote }}
  - name: EBBGATE_HEALTH_BIND
    value: {{ include "ebbgate.programmer.bind" .root | quote }}
  {{- end }}
  {{- with $values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
{{- if eq .command "run" }}
ports:
  - {name: health, containerPort: {{ $values.health.port }}}
{{- include "ebbgate.probes" (dict "host" (include "ebbgate.programmer.bind" .root)) | nindent 0 }}
{{- end }}
resources: {{- toYaml $values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add: [BPF, NET_ADMIN]
  seccompProfile:
    type: {{ $values.seccomp.type }}
    {{- if eq $values.seccomp.type "Localhost" }}
    localhostProfile: {{ .profile }}
    {{- end }}
volumeMounts:
  - {name: bpffs, mountPath: /sys/fs/bpf, mountPropagation: HostToContainer}
  - {name: sysctls, mountPath: /host/proc/sys/net}
{{- end }}

{{/* On the node's own network: loopback, unless Prometheus is to come. */}}
{{- define "ebbgate.programmer.bind" -}}
{{- .Values.programmer.health.bind | default (ternary "" "127.0.0.1" .Values.monitoring.podMonitor.enabled) -}}
{{- end }}
