{{/* The name of one object of this release: "<release>-ledger". */}}
{{- define "aetheris.name" -}}
{{ printf "%s-%s" .release.Name .part | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The labels that select the pods of one service. */}}
{{- define "aetheris.selector" -}}
app.kubernetes.io/name: aetheris
app.kubernetes.io/instance: {{ .release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "aetheris.labels" -}}
{{ include "aetheris.selector" . }}
app.kubernetes.io/version: {{ .chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .release.Service }}
helm.sh/chart: {{ printf "%s-%s" .chart.Name .chart.Version }}
{{- end }}

{{- define "aetheris.image" -}}
{{ .svc.image | default (printf "%s%s:%s" .values.image.prefix .name (.values.image.tag | default .chart.AppVersion)) }}
{{- end }}

{{/* A pod without privileges: no root, no writable disk but /tmp, no capabilities, no service account token. */}}
{{- define "aetheris.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "aetheris.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The DSN, as a reference to its Secret. */}}
{{- define "aetheris.databaseEnv" -}}
- name: AETHERIS_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "database.secret is missing: it names the Secret that holds the PostgreSQL DSN. Make one with `kubectl create secret generic aetheris-database --from-literal=dsn='postgresql://user:password@host/aetheris'` and install with `--set database.secret=aetheris-database`." .values.database.secret }}
      key: {{ .svc.databaseKey | default .values.database.key }}
{{- end }}

{{/*
Each service's ports, whether it writes to PostgreSQL, and which services it calls: the architecture picture in
one place. Deployment, Service, Job and NetworkPolicy read it. `peer` is the port on which other services call it.
*/}}
{{- define "aetheris.parts" -}}
gateway:   {grpc: 9090, peer: 9094, http: 8080, writes: true, calls: [scheduler, ledger]}
scheduler: {grpc: 9091, peer: 9091, writes: true, calls: []}
ledger:    {grpc: 9093, peer: 9093, writes: true, calls: []}
runner:    {grpc: 9092, peer: 9092, writes: false, calls: [scheduler, ledger, gateway]}
{{- end }}

{{- define "aetheris.databaseEgress" -}}
- ports:
    - {protocol: TCP, port: {{ .Values.database.port }}}
  {{- with .Values.networkPolicy.database }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The names under which REST and the pages are called. */}}
{{- define "aetheris.httpHosts" -}}
{{- $name := include "aetheris.name" (dict "release" .Release "part" "gateway") -}}
{{- $space := .Release.Namespace -}}
{{- concat (list $name (printf "%s.%s" $name $space) (printf "%s.%s.svc" $name $space) (printf "%s.%s.svc.cluster.local" $name $space)) .Values.http.hosts | join "," -}}
{{- end }}
