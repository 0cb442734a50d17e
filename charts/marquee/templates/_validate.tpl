{{/* What the schema cannot say, because it needs two values at once. Every fault is told, each with what to do. */}}
{{- define "marquee.validate" -}}
{{- $v := .Values -}}{{- $faults := list -}}
{{- $secret := printf "kubectl create secret generic marquee-redis --namespace %s --from-literal=%s=\"$(openssl rand -hex 24)\"" .Release.Namespace $v.redis.passwordKey -}}
{{- $place := dict "s3" "s3://" "gs" "gs://" "pvc" (printf "%s/" $v.bundleStore.pvc.mountPath) | dig $v.bundleStore.type "" -}}
{{- $store := include "marquee.storeUrl" . -}}
{{- if and (not $store) (or (include "marquee.bootstraps" .) (and $v.retrain.enabled (not $v.retrain.publish))) -}}
{{- $faults = append $faults (printf "bundleStore.url is empty: name the folder for bundles, e.g. --set bundleStore.url=%smodels/bundles, or set bundleStore.type=pvc" $place) -}}
{{- end -}}
{{- range $name, $url := dict "config.bundle" $v.config.bundle "bundleStore.url" $v.bundleStore.url -}}
{{- if and $url (not (hasPrefix $place (printf "%s/" $url))) -}}
{{- $faults = append $faults (printf "%s is %q, which is not in bundleStore.type %q: change one of them" $name $url $v.bundleStore.type) -}}
{{- end -}}
{{- end -}}
{{- if and $v.bootstrap.datasetPath (not $v.bootstrap.datasetClaim) (not (contains "://" $v.bootstrap.datasetPath)) -}}
{{- $faults = append $faults (printf "bootstrap.datasetPath is %q, which is no URL: name the claim that it is a folder of (bootstrap.datasetClaim)" $v.bootstrap.datasetPath) -}}
{{- end -}}
{{- if and $v.bootstrap.datasetClaim (contains "://" $v.bootstrap.datasetPath) -}}
{{- $faults = append $faults "bootstrap.datasetPath is a URL and bootstrap.datasetClaim names a claim: say one of them" -}}
{{- end -}}
{{- $faults = include "marquee.volumeFaults" . | fromJsonArray | concat $faults -}}
{{- if and $v.redis.external.enabled (not $v.redis.external.host) -}}
{{- $faults = append $faults "redis.external.host is empty: name your Redis, or set redis.external.enabled=false" -}}
{{- else if not (or $v.redis.external.enabled $v.redis.existingSecret) -}}
{{- $faults = append $faults (printf "redis.existingSecret is empty: make a Secret with a password and name it. %s; then --set redis.existingSecret=marquee-redis" $secret) -}}
{{- end -}}
{{- if $v.stages -}}
{{- $faults = append $faults "stages is now replicas: write stages.ingress as replicas.ingress, and the other stages as groups, e.g. replicas.groups.accelerated.stages={retrieval,ranking}" -}}
{{- end -}}
{{- if $v.config.placement -}}
{{- $faults = append $faults "config.placement is now replicas.groups: name the stages that have replicas of their own there, e.g. replicas.groups.accelerated.stages={retrieval,ranking}; a stage in no group runs in the ingress" -}}
{{- end -}}
{{- range $name := keys $v.replicas.groups | sortAlpha -}}
{{- if or (not (regexMatch "^[A-Za-z][A-Za-z0-9_-]{0,62}$" $name)) (eq (lower $name) "ingress") -}}
{{- $faults = append $faults (printf "replicas.groups: a group cannot be named %q: use a letter, then up to 62 letters, digits, - or _, and not the ingress's own name" $name) -}}
{{- end -}}
{{- end -}}
{{- $groupOf := dict -}}
{{- range (include "marquee.deployments" . | fromJson).deployments -}}
{{- $size := .size -}}{{- $name := .name -}}
{{- range .stages -}}
{{- if hasKey $groupOf . -}}
{{- $faults = append $faults (printf "%s is in replicas.groups.%s and replicas.groups.%s: leave it in one" . (index $groupOf .) $name) -}}
{{- end -}}
{{- $_ := set $groupOf . $name -}}
{{- end -}}
{{- if and (gt (float64 $size.num_gpus) 0.0) (not $v.workers.gpu.enabled) -}}
{{- $faults = append $faults (printf "%s.num_gpus is above 0 without GPU workers: set workers.gpu.enabled=true" .at) -}}
{{- end -}}
{{- if and (gt (float64 $size.num_gpus) 0.0) (ne $size.runtime "torch") -}}
{{- $faults = append $faults (printf "%s.num_gpus is above 0 with runtime %s, which uses no GPU: set runtime to torch" .at $size.runtime) -}}
{{- end -}}
{{- if and (eq $size.runtime "triton") (not (dig "runtimes" "triton" "address" "" $v.config)) -}}
{{- $faults = append $faults (printf "%s.runtime is triton without a server: set config.runtimes.triton.address to the host:port of its gRPC endpoint" .at) -}}
{{- end -}}
{{- if gt (int $size.autoscaling_config.min_replicas) (int $size.autoscaling_config.max_replicas) -}}
{{- $faults = append $faults (printf "%s.autoscaling_config: min_replicas is above max_replicas" .at) -}}
{{- end -}}
{{- if le (float64 $size.autoscaling_config.look_back_period_s) (default 10 $size.autoscaling_config.metrics_interval_s | float64) -}}
{{- $faults = append $faults (printf "%s.autoscaling_config.look_back_period_s must be above metrics_interval_s, which is 10 where it is not set" .at) -}}
{{- end -}}
{{- if gt (float64 $size.autoscaling_config.target_ongoing_requests) (float64 $size.max_ongoing_requests) -}}
{{- $faults = append $faults (printf "%s: target_ongoing_requests is above max_ongoing_requests, so it would never scale up" .at) -}}
{{- end -}}
{{- end -}}
{{- range $name, $group := $v.workers -}}
{{- if $group.enabled | default (eq $name "cpu") -}}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) -}}
{{- $faults = append $faults (printf "workers.%s: minReplicas is above maxReplicas" $name) -}}
{{- end -}}
{{- if and $group.podDisruptionBudget.enabled (ge (int $group.podDisruptionBudget.minAvailable) (int $group.minReplicas)) -}}
{{- $faults = append $faults (printf "workers.%s.podDisruptionBudget.minAvailable must be below minReplicas, or no node can be drained: raise workers.%s.minReplicas or set workers.%s.podDisruptionBudget.enabled=false" $name $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $entries := or $v.ingress.enabled $v.httpRoute.enabled $v.gateway.enabled -}}
{{- if and $v.networkPolicy.enabled $entries (not $v.networkPolicy.entryFrom) -}}
{{- $faults = append $faults "networkPolicy.entryFrom is empty, so nothing outside the namespace reaches the service: name the peers of your ingress controller or gateway" -}}
{{- end -}}
{{- if $v.gateway.enabled -}}
{{- if not $v.gateway.className -}}
{{- $faults = append $faults "gateway.className is empty: name a GatewayClass (kubectl get gatewayclass)" -}}
{{- end -}}
{{- if not $v.ray.autoscaler.enabled -}}
{{- $faults = append $faults "gateway.enabled needs ray.autoscaler.enabled=true: an incremental upgrade moves capacity step by step" -}}
{{- end -}}
{{- if or $v.ingress.enabled $v.httpRoute.enabled -}}
{{- $faults = append $faults "gateway.enabled excludes ingress.enabled and httpRoute.enabled: KubeRay makes a Gateway and a route, and others would reach the old cluster only" -}}
{{- end -}}
{{- if gt (int $v.gateway.stepSizePercent) (int $v.gateway.maxSurgePercent) -}}
{{- $faults = append $faults "gateway.stepSizePercent is above gateway.maxSurgePercent" -}}
{{- end -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) (not $v.httpRoute.gateway.create) -}}
{{- $faults = append $faults "httpRoute.parentRefs is empty: name a Gateway, or set httpRoute.gateway.create=true" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled $v.httpRoute.gateway.create (not $v.httpRoute.gateway.className) -}}
{{- $faults = append $faults "httpRoute.gateway.className is empty: name a GatewayClass (kubectl get gatewayclass)" -}}
{{- end -}}
{{- if ge (int $v.serve.preStopSeconds) (sub (int $v.serve.terminationGracePeriodSeconds) 50) -}}
{{- $faults = append $faults "serve.preStopSeconds leaves less than 50 s of serve.terminationGracePeriodSeconds for Serve's drain: raise the latter" -}}
{{- end -}}
{{- if and $v.retrain.enabled (gt (len .Release.Name) 21) -}}
{{- $faults = append $faults "with retrain.enabled the release's name may have 21 characters: KubeRay allows a RayJob 47, and the date of a training takes 26" -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\nThese values cannot work:\n  - %s\n" (join "\n  - " $faults)) -}}
{{- end -}}
{{- end -}}
