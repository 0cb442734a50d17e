{{/* Ray's pods, alike in the RayService and in the RayJob that retrains. */}}

{{/* Serve's and Ray's own settings, which they read from the environment. */}}
{{- define "marquee.rayEnv" -}}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: RAY_worker_niceness  # by default 15: replicas would starve beside any busy process
  value: "0"
- name: RAY_SERVE_ENABLE_HA_PROXY
  value: "1"
- name: RAY_SERVE_THROUGHPUT_OPTIMIZED
  value: "1"
- name: RAY_SERVE_LOG_TO_STDERR  # the line above turns it off, and stderr is what a cluster collects
  value: "1"
- name: RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S  # s; by default a slow start is killed after 5
  value: "60"
- name: OPENBLAS_NUM_THREADS  # a replica computes on one thread
  value: "1"
- name: MARQUEE_METRICS_DIR
  value: /var/run/marquee/metrics
{{- with .Values.logs.existingSecret }}
{{ include "marquee.secretEnv" (list "MARQUEE_LOG_KEY" . "key") }}
{{- end }}
{{- with .Values.admin.existingSecret }}
{{ include "marquee.secretEnv" (list "MARQUEE_ADMIN_TOKEN" . "token") }}
{{- end }}
{{- end -}}

{{/* What a group of `workers`, or `head`, asks for, with its GPUs: (list group gpus). */}}
{{- define "marquee.resources" -}}
{{- $asked := deepCopy (index . 0).resources -}}
{{- if gt (int (index . 1)) 0 -}}
{{- $_ := set $asked "limits" (merge (dict "nvidia.com/gpu" (int (index . 1))) ($asked.limits | default dict)) -}}
{{- end -}}
{{- toYaml $asked -}}
{{- end -}}

{{/* A pod template: dict of root, component, role (of the service account), group (values), image, gpus,
     serving (bool: ports, probes and the exporter of a pod with replicas), head (bool: of a RayJob), token (bool), home, env, mounts, volumes. */}}
{{- define "marquee.rayPod" -}}
{{- $root := .root -}}{{- $serve := .root.Values.serve -}}
metadata:
  labels:
    {{- include "marquee.selector" (list $root .component) | nindent 4 }}
    {{- if .serving }}
    ray.io/serve: "true"  # what the Service selects by; KubeRay sets the same on every worker of a RayService
    {{- end }}
    {{- with .group.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .group.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "marquee.pod" (list $root .role .token $root.Values.runAsUser) | nindent 2 }}
  terminationGracePeriodSeconds: {{ default $serve.terminationGracePeriodSeconds .group.terminationGracePeriodSeconds }}
  {{- $placed := include "marquee.placed" (list $root .component .group) | fromYaml }}
  {{- with include "marquee.scheduling" $placed | trim }}{{ . | nindent 2 }}{{ end }}
  {{- with .group.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      labelSelector:
        matchLabels:
          {{- include "marquee.selector" (list $root $.component) | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- if .serving }}
  initContainers:
    - name: exporter
      image: {{ include "marquee.ownImage" (list $root dict "") }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      restartPolicy: Always  # a sidecar: it is restarted by itself, and ends after the replicas it counts
      command: [marquee, exporter, --port, "9464"]
      env:
        - name: HOME
          value: /tmp
        - name: PYTHONDONTWRITEBYTECODE
          value: "1"
        - name: MARQUEE_METRICS_DIR
          value: /var/run/marquee/metrics
      ports:
        - {name: marquee, containerPort: 9464, protocol: TCP}
      resources:
        {{- toYaml $root.Values.exporter.resources | nindent 8 }}
      securityContext:
        {{- include "marquee.restricted" . | nindent 8 }}
      volumeMounts:
        - {name: metrics, mountPath: /var/run/marquee/metrics}
        - {name: exporter-tmp, mountPath: /tmp}
  {{- else if and (eq .component "head") $root.Values.ray.gcsFaultTolerance.enabled }}
  {{- $redis := urlParse (include "marquee.stateAddress" $root) }}
  initContainers:
    # Ray ends at once where a name is not known, and after some minutes without a connection; each time KubeRay
    # makes another head. This waits for as long as it takes.
    - name: redis
      image: {{ .image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command:
        - python
        - -c
        - |
          import socket, sys, time
          while True:
              try:
                  socket.create_connection((sys.argv[1], int(sys.argv[2] or 6379)), timeout=5).close()
                  break
              except OSError as error:
                  print(f"waiting for Redis at {sys.argv[1]}: {error}", flush=True)
                  time.sleep(2)
        - {{ regexReplaceAll ":[0-9]+$" $redis.host "" | quote }}
        - {{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" $redis.host) | quote }}
      resources:
        {{- toYaml $root.Values.exporter.resources | nindent 8 }}
      securityContext:
        {{- include "marquee.restricted" . | nindent 8 }}
  {{- end }}
  containers:
    - name: ray
      image: {{ .image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      env:
        {{- include "marquee.env" (list $root .home) | nindent 8 }}
        {{- with include "marquee.storeEnv" $root | trim }}{{ . | nindent 8 }}{{ end }}
        {{- include "marquee.rayEnv" $root | nindent 8 }}
        {{- with .env }}{{ toYaml . | nindent 8 }}{{ end }}
        {{- with $root.Values.ray.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        {{- if or (eq .component "head") .head }}
        - {name: gcs-server, containerPort: 6379, protocol: TCP}
        - {name: dashboard, containerPort: 8265, protocol: TCP}
        - {name: client, containerPort: 10001, protocol: TCP}
        {{- end }}
        {{- if or .serving (eq .component "head") }}
        - {name: serve, containerPort: 8000, protocol: TCP}
        {{- end }}
        - {name: metrics, containerPort: 8080, protocol: TCP}
      {{- if .serving }}
      readinessProbe:  # of Serve's proxy, which is there once a replica is
        httpGet: {path: /-/healthz, port: serve}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      lifecycle:
        preStop:
          sleep: {seconds: {{ $serve.preStopSeconds }}}
      {{- end }}
      resources:
        {{- include "marquee.resources" (list .group .gpus) | nindent 8 }}
      securityContext:
        {{- include "marquee.restricted" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: metrics, mountPath: /var/run/marquee/metrics}
        {{- if .serving }}
        - {name: traffic, mountPath: {{ include "marquee.trafficFolder" $root }}, readOnly: true}
        {{- end }}
        {{- with include "marquee.storeMounts" (list $root (eq .component "train")) | trim }}{{ . | nindent 8 }}{{ end }}
        {{- with .mounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: metrics, emptyDir: {medium: Memory, sizeLimit: {{ $root.Values.exporter.folderSize }}}}
    {{- if .serving }}
    - {name: exporter-tmp, emptyDir: {}}
    - {name: traffic, configMap: {name: {{ include "marquee.trafficObject" $root }}, optional: true}}
    {{- end }}
    {{- with include "marquee.storeVolumes" $root | trim }}{{ . | nindent 4 }}{{ end }}
    {{- with .volumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end -}}
