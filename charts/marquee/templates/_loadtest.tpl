{{/* Locust's pods. */}}

{{/* A Job cannot be changed, so its name changes with what it does. */}}
{{- define "marquee.loadtestId" -}}
{{- printf "%s %s" (toJson .Values.loadtest) (include "marquee.ownImage" (list . .Values.loadtest.image "")) | sha256sum | trunc 8 -}}
{{- end -}}

{{/* (list root "--master …"): the pod template of the master or of a worker. */}}
{{- define "marquee.loadtestPod" -}}
{{- $root := index . 0 -}}{{- $load := $root.Values.loadtest -}}
metadata:
  labels:
    {{- include "marquee.labels" (list $root "loadtest") | nindent 4 }}
    marquee.dev/locust: {{ index . 1 }}
spec:
  {{- include "marquee.pod" (list $root "loadtest" false $root.Values.runAsUser) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: locust
      image: {{ include "marquee.ownImage" (list $root $load.image "") }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command:
        - sh
        - -euc
        - |
          locustfile=$(python -c 'import loadtests; print(loadtests.__path__[0] + "/locustfile.py")')
          exec locust -f "$locustfile" "$@"
        - locust
      args:
        {{- range slice . 2 }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: HOME
          value: /tmp
        - name: PYTHONDONTWRITEBYTECODE
          value: "1"
      resources:
        {{- toYaml $load.resources | nindent 8 }}
      securityContext:
        {{- include "marquee.restricted" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
  volumes:
    - {name: tmp, emptyDir: {}}
{{- end -}}
