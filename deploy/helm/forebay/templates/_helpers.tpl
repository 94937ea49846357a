{{- define "forebay.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "forebay.fullname" -}}
{{- $name := include "forebay.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "forebay.selector" -}}
app.kubernetes.io/name: {{ include "forebay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "forebay.labels" -}}
{{ include "forebay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "forebay.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "v%s" .Chart.AppVersion) }}{{ end }}
{{- end }}

{{- define "forebay.configMap" -}}
{{- .Values.existingConfigMap | default (printf "%s-config" (include "forebay.fullname" .)) }}
{{- end }}

{{- define "forebay.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "forebay.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* What the chart needs of forebay.yaml: drainTimeout, prefix and shards, as JSON. */}}
{{- define "forebay.read" -}}
{{- $file := .Values.config | default "" | fromYaml }}
{{- if hasKey $file "Error" }}{{ fail (printf "config is no YAML: %s" $file.Error) }}{{ end }}
{{- $read := deepCopy .Values.assume }}
{{- if not .Values.existingConfigMap }}
{{- $read = dict
  "drainTimeout" (dig "worker" "drain_timeout" "2m" $file)
  "prefix" (dig "redis" "prefix" "forebay:" $file)
  "shards" (dig "queues" "shards" 1 $file) }}
{{- end }}
{{- toJson $read }}
{{- end }}

{{/* A duration of Go such as 1h30m, in whole seconds, rounded up. */}}
{{- define "forebay.seconds" -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 }}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|h|m|s)" (toString .) -1 }}
{{- $seconds = addf $seconds (mulf (regexFind "^[0-9.]+" . | float64) (index $units (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- ceil $seconds }}
{{- end }}

{{/* How long a worker may take to end: its drain timeout, and half a minute to commit and to give back. */}}
{{- define "forebay.workerGrace" -}}
{{- $drain := include "forebay.seconds" (include "forebay.read" . | fromJson).drainTimeout | int }}
{{- $grace := .Values.worker.terminationGracePeriodSeconds | default (add $drain 30) | int }}
{{- if le $grace $drain }}{{ fail (printf "worker.terminationGracePeriodSeconds is %d: it must be longer than worker.drain_timeout (%ds), or calls that are paid for are cut off" $grace $drain) }}{{ end }}
{{- $grace }}
{{- end }}

{{/* One of the three processes: dict "root" . "process" "worker" "args" (list ...) "grace" seconds */}}
{{- define "forebay.deployment" -}}
{{- $values := index .root.Values .process -}}
{{- with .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "forebay.fullname" . }}-{{ $.process }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "forebay.labels" . | nindent 4 }}
    app.kubernetes.io/component: {{ $.process }}
spec:
  {{- if not (and (eq $.process "worker") (ne .Values.worker.autoscaling.kind "none")) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "forebay.selector" . | nindent 6 }}
      app.kubernetes.io/component: {{ $.process }}
  template:
    metadata:
      labels:
        {{- include "forebay.labels" . | nindent 8 }}
        app.kubernetes.io/component: {{ $.process }}
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or .Values.podAnnotations (and .Values.restartOnConfigChange .Values.config) }}
      annotations:
        {{- if and .Values.restartOnConfigChange .Values.config }}
        checksum/config: {{ .Values.config | sha256sum }}
        {{- end }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "forebay.serviceAccount" . }}
      # Nothing here talks to Kubernetes.
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $.grace }}
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "forebay.selector" . | nindent 14 }}
              app.kubernetes.io/component: {{ $.process }}
      containers:
        - name: {{ $.process }}
          image: {{ include "forebay.image" . | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args:
            {{- toYaml (concat $.args (list "--ops-listen" "0.0.0.0:9464") $values.extraArgs) | nindent 12 }}
          env:
            - {name: FOREBAY_CONFIG, value: /etc/forebay/forebay.yaml}
            - {name: GOMEMLIMIT, value: {{ $values.goMemLimit | quote }}}
            {{- with .Values.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with .Values.secretRefs }}
          envFrom:
            {{- range . }}
            - secretRef: {name: {{ . | quote }}}
            {{- end }}
          {{- end }}
          ports:
            {{- if eq $.process "producer" }}
            - {name: http, containerPort: 8080}
            {{- end }}
            - {name: ops, containerPort: 9464}
          # Alive is a process that answers, whatever Redis does: to end it would not bring Redis back.
          startupProbe:
            httpGet: {path: /healthz, port: ops}
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: {path: /healthz, port: ops}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: ops}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          {{- if eq $.process "producer" }}
          # Until no balancer sends anything here any more.
          lifecycle:
            preStop:
              sleep: {seconds: 5}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            # The folder, not the file: only so is a change seen.
            - {name: config, mountPath: /etc/forebay, readOnly: true}
            - {name: tmp, mountPath: /tmp}
            {{- if eq $.process "producer" }}
            - {name: files, mountPath: /var/lib/forebay/files}
            {{- end }}
            {{- range $i, $mount := .Values.secretMounts }}
            - {name: secret-{{ $i }}, mountPath: {{ $mount.mountPath | quote }}, readOnly: true}
            {{- end }}
      volumes:
        - name: config
          configMap: {name: {{ include "forebay.configMap" . | quote }}}
        - name: tmp
          emptyDir: {}
        {{- if eq $.process "producer" }}
        - name: files
          {{- if .Values.files.existingClaim }}
          persistentVolumeClaim: {claimName: {{ .Values.files.existingClaim | quote }}}
          {{- else }}
          emptyDir: {}
          {{- end }}
        {{- end }}
        {{- range $i, $mount := .Values.secretMounts }}
        - name: secret-{{ $i }}
          secret: {secretName: {{ $mount.secretName | quote }}, defaultMode: 0440}
        {{- end }}
      {{- with .Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
{{- end }}
