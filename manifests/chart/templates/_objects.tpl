{{/*
The objects of a folder of manifests: its files in the order of its kustomization.yaml, with the labels that it adds.
Takes root, folder, and objects, a dict whose `list` they are added to.
*/}}
{{- define "curfew.read" -}}
{{- $read := . -}}
{{- $kustomization := .root.Files.Get (printf "files/%s/kustomization.yaml" .folder) | fromYaml -}}
{{- range $file := $kustomization.resources -}}
  {{- $text := $read.root.Files.Get (printf "files/%s/%s" $read.folder $file) -}}
  {{- range $document := regexSplit "(?m)^---$" $text -1 -}}
    {{- $object := fromYaml $document -}}
    {{- if $object.Error -}}
      {{- fail (printf "%s/%s: %s" $read.folder $file $object.Error) -}}
    {{- end -}}
    {{- range $kustomization.labels -}}
      {{- include "curfew.label" (dict "object" $object "labels" .pairs) -}}
      {{- if and .includeTemplates (hasKey $object "spec") (hasKey ($object.spec | default dict) "template") -}}
        {{- include "curfew.label" (dict "object" $object.spec.template "labels" .pairs) -}}
      {{- end -}}
    {{- end -}}
    {{- $_ := set $read.objects "list" (append $read.objects.list $object) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/*
Adds labels to an object.
*/}}
{{- define "curfew.label" -}}
{{- $_ := set .object.metadata "labels" (merge dict .labels (.object.metadata.labels | default dict)) -}}
{{- end -}}

{{/*
Has Helm leave an object alone when the release is removed.
*/}}
{{- define "curfew.keep" -}}
{{- $_ := set .metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") (.metadata.annotations | default dict)) -}}
{{- end -}}

{{/*
Whether the agents need rights of their own: "true", or nothing.
*/}}
{{- define "curfew.legacy" -}}
{{- if eq (toString .Values.legacy) "auto" -}}
  {{- if semverCompare "<1.36.0-0" .Capabilities.KubeVersion.Version }}true{{ end -}}
{{- else if .Values.legacy -}}
true
{{- end -}}
{{- end -}}

{{/*
Whether the API server knows InteractionPolicies: "true", or nothing.
*/}}
{{- define "curfew.knowsPolicies" -}}
{{- if .Capabilities.APIVersions.Has "curfew.dev/v1alpha1/InteractionPolicy" }}true{{ end -}}
{{- end -}}
