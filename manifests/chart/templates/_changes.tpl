{{/*
Changes an object of the manifests to what the values say. Takes root and object.
*/}}
{{- define "curfew.change" -}}
{{- $name := printf "%s/%s" .object.kind .object.metadata.name -}}
{{- if eq .object.kind "CustomResourceDefinition" -}}
  {{- /* Deleting it would delete all objects of its kind. */ -}}
  {{- include "curfew.keep" .object -}}
{{- else if eq .object.kind "PriorityClass" -}}
  {{- /* Without the class that they name, pods cannot be created. */ -}}
  {{- include "curfew.keep" .object -}}
{{- else if eq $name "Service/curfew-webhook" -}}
  {{- /*
    Helm deletes Services and Deployments first. The API server would then call a webhook that is gone, and deny every
    exec, until the ClusterRoles are deleted: without them the webhook configuration has no effect. So Helm leaves these
    two to the deletion of the namespace, which follows after the ClusterRoles.
  */ -}}
  {{- include "curfew.keep" .object -}}
{{- else if eq $name "Deployment/curfew-webhook" -}}
  {{- include "curfew.keep" .object -}}
  {{- include "curfew.webhook" . -}}
{{- else if eq $name "DaemonSet/curfew-agent" -}}
  {{- with .root.Values.agent.seLinuxType -}}
    {{- $container := first $.object.spec.template.spec.containers -}}
    {{- $_ := set $container.securityContext "seLinuxOptions" (dict "type" .) -}}
  {{- end -}}
  {{- $env := include "curfew.defaults" .root | fromJson -}}
  {{- if .root.Values.evidence.enabled -}}
    {{- include "curfew.evidence" . -}}
    {{- $_ := set $env "CURFEW_EVIDENCE" "files" -}}
  {{- end -}}
  {{- include "curfew.workload" (dict "root" .root "object" .object "values" .root.Values.agent "env" $env) -}}
{{- else if eq $name "SecurityContextConstraints/curfew-agent" -}}
  {{- if .root.Values.evidence.enabled -}}
    {{- $_ := set .object "allowHostPID" true -}}
    {{- $_ := set .object "allowedCapabilities" (include "curfew.evidenceCapabilities" . | fromJsonArray) -}}
  {{- end -}}
{{- else if eq .object.kind "NetworkPolicy" -}}
  {{- include "curfew.network" . -}}
{{- else if hasPrefix "monitoring.coreos.com/" .object.apiVersion -}}
  {{- include "curfew.label" (dict "object" .object "labels" .root.Values.monitoring.labels) -}}
{{- end -}}
{{- end -}}

{{/*
What holds where no policy says otherwise: for the webhook, and for agents that look into containers.
*/}}
{{- define "curfew.defaults" -}}
{{- $defaults := .Values.defaults -}}
{{- $env := dict
  "CURFEW_DEFAULT_TTL" $defaults.ttl
  "CURFEW_DEFAULT_MAX_EXTENSION" $defaults.maxExtension
  "CURFEW_DEFAULT_MAX_HOLD" $defaults.maxHold
-}}
{{- if ne $defaults.enforcement "Enforce" -}}
  {{- $_ := set $env "CURFEW_DEFAULT_ENFORCEMENT" $defaults.enforcement -}}
{{- end -}}
{{- toJson $env -}}
{{- end -}}

{{/*
The Deployment of the webhook.
*/}}
{{- define "curfew.webhook" -}}
{{- $values := .root.Values -}}
{{- $spec := .object.spec -}}
{{- $_ := set $spec "replicas" $values.webhook.replicas -}}
{{- $env := include "curfew.defaults" .root | fromJson -}}
{{- if ne $values.unrecorded "deny" -}}
  {{- $_ := set $env "CURFEW_UNRECORDED" $values.unrecorded -}}
{{- end -}}
{{- if include "curfew.legacy" .root -}}
  {{- $_ := set $env "CURFEW_EVICTION_GUARD" "true" -}}
{{- end -}}
{{- range $port := (first $spec.template.spec.containers).ports -}}
  {{- $wanted := index $values.webhook.ports $port.name -}}
  {{- if ne (int $port.containerPort) (int $wanted) -}}
    {{- $_ := set $port "containerPort" $wanted -}}
    {{- $_ := set $env (eq $port.name "admission" | ternary "CURFEW_LISTEN" "CURFEW_METRICS_LISTEN") (printf "[::]:%d" (int $wanted)) -}}
  {{- end -}}
{{- end -}}
{{- if $values.webhook.hostNetwork -}}
  {{- $_ := set $spec.template.spec "hostNetwork" true -}}
  {{- /* On a node, the ports of a new replica are free only after the old one has ended. */ -}}
  {{- $_ := set $spec.strategy "rollingUpdate" (dict "maxSurge" 0 "maxUnavailable" 1) -}}
{{- end -}}
{{- include "curfew.workload" (dict "root" .root "object" .object "values" $values.webhook "env" $env) -}}
{{- end -}}

{{/*
What lets the agents look into containers, as in manifests/components/evidence.
*/}}
{{- define "curfew.evidence" -}}
{{- $pod := .object.spec.template.spec -}}
{{- $_ := set $pod "hostPID" true -}}
{{- $context := (first $pod.containers).securityContext -}}
{{- $_ := set $context "appArmorProfile" (dict "type" "Unconfined") -}}
{{- $_ := set $context.capabilities "add" (include "curfew.evidenceCapabilities" . | fromJsonArray) -}}
{{- end -}}

{{- define "curfew.evidenceCapabilities" -}}
["SYS_PTRACE", "DAC_READ_SEARCH"]
{{- end -}}

{{/*
What both workloads have. Takes root, object, values, which are those of the workload, and env. An empty variable is
left out.
*/}}
{{- define "curfew.workload" -}}
{{- $root := .root -}}
{{- $pod := .object.spec.template.spec -}}
{{- $container := first $pod.containers -}}
{{- with .values.image -}}
  {{- $reference := printf "%s:%s" .repository (.tag | default $root.Chart.AppVersion) -}}
  {{- if .digest -}}
    {{- $reference = printf "%s@%s" .repository .digest -}}
  {{- end -}}
  {{- $_ := set $container "image" $reference -}}
  {{- with .pullPolicy -}}
    {{- $_ := set $container "imagePullPolicy" . -}}
  {{- end -}}
{{- end -}}
{{- with $root.Values.imagePullSecrets -}}
  {{- $_ := set $pod "imagePullSecrets" . -}}
{{- end -}}
{{- $_ := set $container "resources" .values.resources -}}
{{- with .values.nodeSelector -}}
  {{- $_ := set $pod "nodeSelector" . -}}
{{- else -}}
  {{- $_ := unset $pod "nodeSelector" -}}
{{- end -}}
{{- with .values.tolerations -}}
  {{- $_ := set $pod "tolerations" . -}}
{{- else -}}
  {{- $_ := unset $pod "tolerations" -}}
{{- end -}}
{{- $own := dict "CURFEW_LOG_LEVEL" $root.Values.log.level "CURFEW_LOG_FORMAT" $root.Values.log.format -}}
{{- $env := merge dict .values.env .env $own -}}
{{- range $name := keys $env | sortAlpha -}}
  {{- with get $env $name -}}
    {{- $_ := set $container "env" (append ($container.env | default list) (dict "name" $name "value" (toString .))) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/*
A NetworkPolicy. A rule without peers for incoming connections is for the API server or for Prometheus, one for outgoing
connections is for the API server.
*/}}
{{- define "curfew.network" -}}
{{- $values := .root.Values -}}
{{- $networks := $values.networkPolicies -}}
{{- $blocks := list -}}
{{- range $networks.apiServer.addresses -}}
  {{- $blocks = append $blocks (dict "ipBlock" (dict "cidr" .)) -}}
{{- end -}}
{{- range $rule := .object.spec.egress -}}
  {{- if not $rule.to -}}
    {{- with $blocks -}}
      {{- $_ := set $rule "to" . -}}
    {{- end -}}
    {{- $ports := list -}}
    {{- range $networks.apiServer.ports -}}
      {{- $ports = append $ports (dict "protocol" "TCP" "port" .) -}}
    {{- end -}}
    {{- $_ := set $rule "ports" $ports -}}
  {{- end -}}
{{- end -}}
{{- $sources := list -}}
{{- range $networks.apiServer.sources -}}
  {{- $sources = append $sources (dict "ipBlock" (dict "cidr" .)) -}}
{{- end -}}
{{- $ingress := list -}}
{{- range $rule := .object.spec.ingress -}}
  {{- if $rule.from -}}
    {{- if $values.webhook.hostNetwork -}}
      {{- /* The webhook calls from the addresses of its nodes. Its certificate tells who it is. */ -}}
      {{- $rule = omit $rule "from" -}}
    {{- end -}}
    {{- $ingress = append $ingress $rule -}}
  {{- else if or $sources $networks.metricsFrom -}}
    {{- range $port := $rule.ports -}}
      {{- $from := eq $port.port "metrics" | ternary $networks.metricsFrom $sources -}}
      {{- $one := dict "ports" (list $port) -}}
      {{- with $from -}}
        {{- $_ := set $one "from" . -}}
      {{- end -}}
      {{- $ingress = append $ingress $one -}}
    {{- end -}}
  {{- else -}}
    {{- $ingress = append $ingress $rule -}}
  {{- end -}}
{{- end -}}
{{- with $ingress -}}
  {{- $_ := set $.object.spec "ingress" . -}}
{{- end -}}
{{- end -}}
