{{/* Parts that several manifests share. */}}

{{- define "wardgate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "wardgate.fullname" -}}
{{- $name := include "wardgate.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $both | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "wardgate.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "wardgate.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What tells our pods from others: (dict "root" $ "component" "gateway"). */}}
{{- define "wardgate.selector" -}}
app.kubernetes.io/name: {{ include "wardgate.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "wardgate.labels" -}}
{{ include "wardgate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "wardgate.image" -}}
{{- $repository := required "image.repository: build deploy/Dockerfile, push it, and say where" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The restricted Pod Security Standard; nothing of it is a value. */}}
{{- define "wardgate.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . }}
{{- end }}
{{- with .Values.fsGroup }}
fsGroup: {{ . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "wardgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The environment: (dict "root" $ "own" (dict NAME value …) "database" SECRET). `settings` win. */}}
{{- define "wardgate.env" -}}
{{- $values := .root.Values -}}
{{- $common := dict "WARDGATE_ENV" "production" "WARDGATE_DATA_DIR" "/data" -}}
{{- if not $values.kek.external -}}
{{- $file := printf "/run/wardgate/kek/%s" $values.kek.key -}}
{{- $common = merge $common (dict "WARDGATE_KEK_FILE" $file "WARDGATE_KEK_FILE_GROUP_READABLE" "true") -}}
{{- end -}}
{{- range $name, $value := merge (deepCopy $values.settings) .own $common }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
- name: WARDGATE_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .database }}, key: {{ $values.database.key }}}}
{{- with $values.redis.existingSecret }}
- name: WARDGATE_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $values.redis.key }}}}
{{- end }}
{{- /* Whoever starts first makes the first token, be it a gateway. */ -}}
{{- with $values.bootstrapToken.existingSecret }}
- name: WARDGATE_BOOTSTRAP_ADMIN_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $values.bootstrapToken.key }}}}
{{- end }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "wardgate.database" -}}
{{- required "database.existingSecret: a Secret with a postgresql+asyncpg:// URL" .Values.database.existingSecret -}}
{{- end -}}

{{- define "wardgate.volumeMounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if not .Values.kek.external }}
- {name: kek, mountPath: /run/wardgate/kek, readOnly: true}
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* /data holds the sealed routing table and metrics, which a new pod makes anew. */}}
{{- define "wardgate.volumes" -}}
- {name: data, emptyDir: {}}
- {name: tmp, emptyDir: {}}
{{- if not .Values.kek.external }}
- name: kek
  secret:
    secretName: {{ required "kek.existingSecret: a Secret with the master key, or kek.external: true" .Values.kek.existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .Values.kek.key }}, path: {{ .Values.kek.key }}}]
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
