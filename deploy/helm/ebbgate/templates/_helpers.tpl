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

{{/* "true": the servers are of our own. */}}
{{- define "ebbgate.nats.own" -}}
{{- and (empty .Values.nats.url) (empty .Values.nats.urlSecret) -}}
{{- end }}

{{/* Where the bus is; in a Secret, as it may have a password. */}}
{{- define "ebbgate.nats.url" -}}
- name: EBBGATE_NATS_URL
  {{- if .Values.nats.urlSecret }}
  valueFrom:
    secretKeyRef: {name: {{ .Values.nats.urlSecret }}, key: url}
  {{- else }}
  value: {{ .Values.nats.url | default (printf "nats://ebbgate-nats.%s.svc:4222" .Release.Namespace) | quote }}
  {{- end }}
{{- end }}

{{/* Ports of the bus, separated by commas; of one whose address is in a Secret the usual. */}}
{{- define "ebbgate.nats.ports" -}}
{{- range $i, $url := splitList "," .Values.nats.url -}}
{{- if $i }},{{ end }}{{ regexFind ":[0-9]+/?$" $url | trimAll ":/" | default "4222" }}
{{- end -}}
{{- end }}

{{/* How every service reaches the bus. */}}
{{- define "ebbgate.nats.env" -}}
{{- include "ebbgate.nats.url" . }}
{{- if eq (include "ebbgate.tls" .) "true" }}
- name: EBBGATE_NATS_CA
  value: /etc/ebbgate/ca/ca.crt
{{- end }}
{{- if eq (include "ebbgate.auth" .) "true" }}
- name: EBBGATE_NATS_TOKEN
  value: /var/run/secrets/ebbgate/token
{{- end }}
{{- if .Values.nats.credsSecret }}
- name: EBBGATE_NATS_CREDS
  value: /etc/ebbgate/creds/nats.creds
{{- end }}
{{- end }}

{{- define "ebbgate.nats.pullPolicy" -}}
{{- ternary .Values.nats.image.pullPolicy .Values.image.pullPolicy (ne .Values.nats.image.repository "") -}}
{{- end }}

{{/* "true": the CRD isn't there, or is this release's. */}}
{{- define "ebbgate.crd.ours" -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "ciliumegressgatewaypolicies.cilium.io" | default dict -}}
{{- $owner := dig "metadata" "annotations" dict $there -}}
{{- or (empty $there) (and (eq (get $owner "meta.helm.sh/release-name") .Release.Name) (eq (get $owner "meta.helm.sh/release-namespace") .Release.Namespace)) -}}
{{- end }}

{{- define "ebbgate.podName" -}}
valueFrom:
  fieldRef:
    fieldPath: metadata.name
{{- end }}

{{/* What all pods but the programmer's are: the restricted pod security standard. */}}
{{- define "ebbgate.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.podSecurityContext }}{{ toYaml . | nindent 0 }}{{ end }}
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

{{/* Over nodes and zones, or as the values say. Context: root, component and values. */}}
{{- define "ebbgate.spread" -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "ebbgate.selector" . | fromYaml)) }}
{{- if kindIs "invalid" .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range (list "kubernetes.io/hostname" "topology.kubernetes.io/zone") }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    {{- toYaml $own | nindent 4 }}
  {{- end }}
{{- else if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range .values.topologySpreadConstraints }}
  - {{- toYaml (hasKey . "labelSelector" | ternary . (merge (deepCopy $own) .)) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* How a service logs. */}}
{{- define "ebbgate.logging" -}}
- name: EBBGATE_LOG_FORMAT
  value: {{ .Values.logging.format }}
- name: EBBGATE_LOG_LEVEL
  value: {{ .Values.logging.level }}
{{- end }}

{{/* What a service is told: by `own`, a list in YAML, but for what `extra` names, too. No name may be there twice. */}}
{{- define "ebbgate.env" -}}
{{- $named := list }}
{{- range .extra }}{{ $named = append $named .name }}{{ end }}
{{- $env := list }}
{{- range fromYamlArray .own }}{{ if not (has .name $named) }}{{ $env = append $env . }}{{ end }}{{ end }}
{{- concat $env .extra | toYaml }}
{{- end }}

{{/* Of who takes the spans. */}}
{{- define "ebbgate.tracing.port" -}}
{{- $url := urlParse .Values.tracing.endpoint -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end }}

{{/* Where a service sends its spans, if anywhere. */}}
{{- define "ebbgate.tracing" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .ratio | quote }}
{{- if .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: {name: {{ .headersSecret }}, key: headers}
{{- end }}
{{- end }}
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
pid_file: /run/nats/nats.pid
jetstream {
  store_dir: /data
}
{{- if eq (include "ebbgate.tls" .) "true" }}
tls {
  cert_file: /etc/ebbgate-nats-server/tls.crt
  key_file: /etc/ebbgate-nats-server/tls.key
  min_version: "1.2"
}
{{- end }}
{{- if eq (include "ebbgate.auth" .) "true" }}
include "../ebbgate-nats-server/accounts.conf"
{{- end }}
{{- if gt (int .Values.nats.replicas) 1 }}
cluster {
  name: ebbgate
  listen: 0.0.0.0:6222
  # Clients come by the Service's name, which certificates are for, not by the pods' addresses.
  no_advertise: true
  {{- if eq (include "ebbgate.tls" .) "true" }}
  tls {
    cert_file: /etc/ebbgate-nats-server/tls.crt
    key_file: /etc/ebbgate-nats-server/tls.key
    ca_file: /etc/ebbgate-nats-server/ca.crt
    verify: true
  }
  {{- end }}
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
env: {{- include "ebbgate.env" (dict "own" (include "ebbgate.programmer.env" .) "extra" $values.extraEnv) | nindent 2 }}
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
  {{- if eq .command "run" }}
  {{- include "ebbgate.nats.mounts" .root | nindent 2 }}
  {{- with $values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- end }}
{{- end }}

{{/* On the node's own network: loopback, unless Prometheus is to come. */}}
{{- define "ebbgate.programmer.bind" -}}
{{- .Values.programmer.health.bind | default (ternary "" "127.0.0.1" (or .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled)) -}}
{{- end }}

{{/* "true": clients show who they are. Unless told otherwise, to servers of our own. */}}
{{- define "ebbgate.auth" -}}
{{- if kindIs "invalid" .Values.nats.auth.enabled }}{{ include "ebbgate.nats.own" . }}{{ else }}{{ .Values.nats.auth.enabled }}{{ end -}}
{{- end }}

{{/* "true": clients demand TLS. Unless told otherwise, of servers of our own, and where there is a CA. */}}
{{- define "ebbgate.tls" -}}
{{- if kindIs "invalid" .Values.nats.tls.enabled }}{{ or (eq (include "ebbgate.nats.own" .) "true") (ne .Values.nats.tls.caSecret "") }}{{ else }}{{ .Values.nats.tls.enabled }}{{ end -}}
{{- end }}

{{/* "true": keys and certificates are made here. */}}
{{- define "ebbgate.credentials.made" -}}
{{- or (eq (include "ebbgate.auth" .) "true") (and (eq (include "ebbgate.tls" .) "true") (eq (include "ebbgate.nats.own" .) "true")) -}}
{{- end }}

{{- define "ebbgate.caSecret" -}}
{{- .Values.nats.tls.caSecret | default "ebbgate-nats-ca" -}}
{{- end }}

{{/* What ServiceAccounts are on the bus. */}}
{{- define "ebbgate.accounts" -}}
{{- range $i, $role := list "watcher" "resolver" "programmer" "reader" }}{{ if $i }},{{ end }}{{ $.Release.Namespace }}/ebbgate-{{ $role }}={{ $role }}{{ end -}}
{{- end }}

{{/* Files by which a client of the bus knows the server and is known: mounts, and volumes. */}}
{{- define "ebbgate.nats.mounts" -}}
{{- if eq (include "ebbgate.tls" .) "true" }}
- {name: bus-ca, mountPath: /etc/ebbgate/ca, readOnly: true}
{{- end }}
{{- if eq (include "ebbgate.auth" .) "true" }}
- {name: bus-token, mountPath: /var/run/secrets/ebbgate, readOnly: true}
{{- end }}
{{- if .Values.nats.credsSecret }}
- {name: bus-creds, mountPath: /etc/ebbgate/creds, readOnly: true}
{{- end }}
{{- end }}

{{- define "ebbgate.nats.volumes" -}}
{{- if eq (include "ebbgate.tls" .) "true" }}
- name: bus-ca
  secret: {secretName: {{ include "ebbgate.caSecret" . }}}
{{- end }}
{{- if eq (include "ebbgate.auth" .) "true" }}
- name: bus-token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: ebbgate-nats, expirationSeconds: 3600}
{{- end }}
{{- if .Values.nats.credsSecret }}
- name: bus-creds
  secret: {secretName: {{ .Values.nats.credsSecret }}, defaultMode: 288}
{{- end }}
{{- end }}

{{/* DNS names of the servers, for their certificate. */}}
{{- define "ebbgate.nats.names" -}}
{{- $namespace := .Release.Namespace -}}
{{- $names := list "localhost" "ebbgate-nats" (printf "ebbgate-nats.%s" $namespace) (printf "ebbgate-nats.%s.svc" $namespace) (printf "*.ebbgate-nats-servers.%s.svc" $namespace) -}}
{{- join "," (concat $names .Values.credentials.names) -}}
{{- end }}

{{/* A job that makes credentials. Context: it, account, rotate. */}}
{{- define "ebbgate.credentials" -}}
{{- $root := .it.root -}}
backoffLimit: 4
ttlSecondsAfterFinished: 600
template:
  metadata:
    labels:
      {{- include "ebbgate.selector" .it | nindent 6 }}
      {{- with .it.values.podLabels }}{{ toYaml . | nindent 6 }}{{ end }}
    {{- with .it.values.podAnnotations }}
    annotations: {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    serviceAccountName: {{ .account }}
    enableServiceLinks: false
    restartPolicy: Never
    securityContext: {{- include "ebbgate.podSecurityContext" $root | nindent 6 }}
    {{- include "ebbgate.placement" .it | nindent 4 }}
    containers:
      - name: credentials
        image: {{ include "ebbgate.image" (dict "root" $root "image" $root.Values.image) }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        command: [ebbgate-usher, credentials, --namespace, {{ $root.Release.Namespace }}, --names, {{ include "ebbgate.nats.names" $root | quote }}{{ if .rotate }}, --rotate{{ end }}]
        env: {{- include "ebbgate.logging" $root | nindent 10 }}
        resources: {{- toYaml $root.Values.credentials.resources | nindent 10 }}
        securityContext: {{- include "ebbgate.securityContext" $root | nindent 10 }}
{{- end }}
