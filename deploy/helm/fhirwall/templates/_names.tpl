{{- define "fhirwall.name" -}}
{{- if contains "fhirwall" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-fhirwall" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end -}}

{{- define "fhirwall.selector" -}}
app.kubernetes.io/name: fhirwall
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fhirwall.labels" -}}
{{ include "fhirwall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "fhirwall.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}

{{/* One probe: asked from inside, since the admin address is on loopback or wants a certificate. */}}
{{- define "fhirwall.probe" -}}
exec:
  command:
    - /fhirwall
    - probe
    - {{ .question }}
    {{- if .root.Values.metrics.enabled }}
    - --url=https://{{ .root.Values.metrics.serverName }}:{{ .root.Values.ports.admin }}
    - --ca=/etc/fhirwall/probe/ca.pem
    - --certificate=/etc/fhirwall/probe/tls.crt
    - --key=/etc/fhirwall/probe/tls.key
    {{- else }}
    - --url=http://127.0.0.1:{{ .root.Values.ports.admin }}
    {{- end }}
timeoutSeconds: 5
{{- end -}}

{{- define "fhirwall.container" -}}
name: fhirwall
image: {{ include "fhirwall.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/fhirwall/config/fhirwall.yaml]
{{- if eq .Values.mode "sidecar" }}
restartPolicy: Always
{{- end }}
ports:
  - {name: https, containerPort: {{ .Values.ports.https }}}
  {{- if .Values.ports.smart }}
  - {name: smart, containerPort: {{ .Values.ports.smart }}}
  {{- end }}
  {{- if .Values.metrics.enabled }}
  - {name: admin, containerPort: {{ .Values.ports.admin }}}
  {{- end }}
{{- with .Values.secrets.environment }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
startupProbe:
  {{- include "fhirwall.probe" (dict "root" . "question" "startupz") | nindent 2 }}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  {{- include "fhirwall.probe" (dict "root" . "question" "livez") | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  {{- include "fhirwall.probe" (dict "root" . "question" "readyz") | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 1
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/fhirwall/config, readOnly: true}
  - {name: partners, mountPath: /etc/fhirwall/partners, readOnly: true}
  - {name: policies, mountPath: /etc/fhirwall/policies, readOnly: true}
  - {name: tls, mountPath: /etc/fhirwall/tls, readOnly: true}
  - {name: keys, mountPath: /etc/fhirwall/keys, readOnly: true}
  {{- if .Values.metrics.enabled }}
  - {name: probe, mountPath: /etc/fhirwall/probe, readOnly: true}
  {{- end }}
  - {name: audit, mountPath: /var/lib/fhirwall}
{{- end -}}
