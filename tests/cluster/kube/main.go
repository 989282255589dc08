// Command kube is every Kubernetes component of the test cluster in one
// binary: linking them together shares their common code on disk and in the
// page cache. The component is chosen by the name the binary is called by
// (a symbolic link) or else by the first argument.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components maps a name to what runs it; each returns the exit status.
var components = map[string]func() int{
	"etcd": func() int {
		etcdmain.Main(os.Args) // leaves by os.Exit when it fails
		return 0
	},
	"kube-apiserver":          run(apiserver.NewAPIServerCommand),
	"kube-controller-manager": run(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          run(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 run(newKubeletCommand),
	"kubectl":                 run(kubectl.NewDefaultKubectlCommand),
}

// newKubeletCommand knows the function of each minor that this is built from:
// it takes a context since Kubernetes 1.34.
func newKubeletCommand() *cobra.Command {
	switch newCommand := any(kubelet.NewKubeletCommand).(type) {
	case func(context.Context) *cobra.Command:
		return newCommand(context.Background())
	case func() *cobra.Command:
		return newCommand()
	}
	panic("kubelet.NewKubeletCommand has changed")
}

func run(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, known := components[name]; !known && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	component, known := components[name]
	if !known {
		names := make([]string, 0, len(components))
		for n := range components {
			names = append(names, n)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "kube: %q is no component; call it as one of %s\n", name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(component())
}
